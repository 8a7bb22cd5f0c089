"""Sections of a configuration, except for the terms: one typed record per section, one field per key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from distill.config.augmentation import AnyAugment, AugmentSection, MixSection
from distill.config.base import (
    OpenSection,
    PathText,
    Positive,
    Section,
    Weights,
    is_weights_path,
)
from distill.config.custom_terms import AnyTerm
from distill.config.names import MAX_LENGTH, check_name
from distill.config.recipe import EarlyStoppingSection, EMASection, OptimizerSection, ScheduleSection
from distill.config.terms import CrossEntropyTerm
from distill.files import expand_home

#: Value of teacher.classes for a teacher that keeps its own classes.
OWN_CLASSES = "own"
#: Terms that are added to the objective unless they are set to null.
DEFAULT_TERMS = ("cross_entropy",)


class Normalisation(Section):
    """Mean and standard deviation of each channel, for images in [0, 1]."""

    mean: list[float]
    std: list[Positive]


class DataSection(OpenSection):
    """Data set; other keys are options of the data set, see `distill list datasets`."""

    name: str = "fashion_scenes"
    """Name of a data set, see `distill list datasets`."""
    batch_size: Annotated[int, Field(ge=1)] = 128
    """Images per training step, on each device."""
    eval_batch_size: Annotated[int, Field(ge=1)] = 256
    """Images per step, outside of training."""
    seed: int = 0
    """Seed of scenes, splits and views; runs with equal seeds use the same images in the same views."""
    workers: Annotated[int, Field(ge=0)] | None = None
    """Number of processes that decode image files; at most 4, one per core, if left out."""
    augment: AnyAugment = AugmentSection()
    """Views of the images in training: keys of the counted views, or a list of transforms of torchvision."""
    mixup: MixSection | None = None
    """Averages of two images in training; none if left out."""
    cutmix: MixSection | None = None
    """Rectangles of one image in another in training; none if left out."""
    class_weights: Literal["balanced"] | dict[str, Positive] | None = None
    """Weights of the classes in the cross-entropy: by name (1 if not named), or `balanced`; equal if left out."""
    sampler: Literal["balanced"] | None = None
    """`balanced`: an epoch has images of all classes equally often; every image once if left out."""

    @field_validator("class_weights", mode="before")
    @classmethod
    def _read_numbers_as_names(cls, weights: Any) -> Any:
        return {str(name): weight for name, weight in weights.items()} if isinstance(weights, Mapping) else weights

    @model_validator(mode="after")
    def _check_probabilities(self) -> DataSection:
        if self.mixup and self.cutmix and self.mixup.probability + self.cutmix.probability > 1:
            raise ValueError("a batch is mixed in one way: the probabilities of mixup and cutmix must sum to at most 1")
        return self

    @model_validator(mode="before")
    @classmethod
    def _expand_root(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and isinstance(values.get("root"), str | Path):
            return {**values, "root": expand_home(values["root"])}
        return values


class StudentSection(OpenSection):
    """Network that is trained; other keys are options of the network, such as `dropout`."""

    name: str = "wrn_16_2"
    """Name of a network, see `distill list models`, or `package.module:callable`."""
    normalisation: Normalisation | None = None
    """Input normalisation; that of the weights if they record it, else computed from the training images."""
    weights: Weights = None
    """Weights from which training starts: a path as in teacher.checkpoint, true or a name of the network's library."""
    weights_key: str | None = None
    """Which set of weights to take from a file with several, such as `ema`."""
    head: Literal["keep", "replace"] = "keep"
    """`replace`: the layer that returns the classes is not taken from the weights."""
    freeze: list[str] = Field(default=[])
    """Patterns of parameter names that are not trained, such as `layer1` or `*.bn*`."""
    compile: bool = False
    """Whether the forward pass in training is compiled by torch.compile."""

    @model_validator(mode="after")
    def _check_keys_of_weights(self) -> StudentSection:
        for key in ("head", "weights_key"):
            if self.weights is None and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} belongs to student.weights, which is not set; remove {key}")
        return self


class TeacherSection(OpenSection):
    """Network that the student learns from; other keys are options of the network."""

    checkpoint: PathText | None = None
    """Path of a run directory, a .ckpt or .safetensors file, or a plain state dict (.pth); or `weights: PATH`."""
    name: str | None = None
    """Name of the network; required for a plain state dict or `weights`, compared with the file otherwise."""
    weights: Weights = None
    """In place of a checkpoint: true or a name of weights of the network's library, or a path."""
    weights_key: str | None = None
    """Which set of weights to take from a file with several, such as `ema`."""
    normalisation: Normalisation | None = None
    """Input normalisation; required for a plain state dict."""
    classes: Literal["own"] | dict[str, int | str] | list[int | str] | None = None
    """Class of the teacher for each class of the data, by index or name; `own`: the teacher keeps its own classes."""
    cache: Literal["off", "memory", "disk"] = "off"
    """Where the teacher's logits and maps are stored by image and view; other runs can use a cache on disk."""
    cache_dir: PathText | None = None
    """Folder of the cache on disk; `teacher_cache` in output_dir if left out."""
    compile: bool = False
    """Whether the teacher's forward pass is compiled by torch.compile."""

    @model_validator(mode="before")
    @classmethod
    def _read_path_of_weights(cls, values: Any) -> Any:
        weights = values.get("weights") if isinstance(values, Mapping) else None
        if not is_weights_path(weights):
            return values
        if values.get("checkpoint") is not None:
            raise ValueError("weights and checkpoint are two names of the same path; give one of them")
        rest = {key: value for key, value in values.items() if key not in ("weights", "checkpoint")}
        return {**rest, "checkpoint": values["weights"]}

    @field_validator("classes", mode="before")
    @classmethod
    def _read_numbers_as_names(cls, classes: Any) -> Any:
        return {str(name): one for name, one in classes.items()} if isinstance(classes, Mapping) else classes

    @model_validator(mode="after")
    def _check_source(self) -> TeacherSection:
        if self.checkpoint is None and not self.weights:
            raise ValueError("give a checkpoint, or `name` and `weights` of a library, such as `weights: true`")
        if self.checkpoint is not None and self.weights:
            raise ValueError("weights and checkpoint are two sources of the same network; give one of them")
        if self.checkpoint is None and self.name is None:
            raise ValueError("weights needs the name of a network, such as `name: torchvision:resnet50`")
        return self

    @property
    def source(self) -> str:
        """Where the teacher comes from: its checkpoint, or its name and weights."""
        return self.checkpoint if self.checkpoint is not None else f"{self.name} (weights: {self.weights})"

    @field_validator("cache", mode="before")
    @classmethod
    def _read_false_as_off(cls, cache: Any) -> Any:
        return "off" if cache is False else cache  # YAML reads `off` as False


class MonitorSection(Section):
    """Selection of the weights that become the student; uses the validation split only."""

    metric: str = "validation/accuracy"
    mode: Literal["max", "min"] = "max"
    select: Literal["best", "last"] = "best"


class CheckpointSection(Section):
    """When checkpoints are saved, in addition to the end of every epoch."""

    every_n_steps: Annotated[int, Field(ge=1)] | None = None


class LoggersSection(Section):
    """Loggers of Lightning, in addition to metrics.csv: true, false, or the arguments of the logger's class."""

    tensorboard: bool | dict[str, Any] = True
    wandb: bool | dict[str, Any] = False
    mlflow: bool | dict[str, Any] = False
    comet: bool | dict[str, Any] = False
    neptune: bool | dict[str, Any] = False


class Config(Section):
    """Configuration of one run."""

    name: str = "run"
    """Name of the run directory."""
    output_dir: PathText = "runs"
    """Folder of the run directory."""
    seed: int = 0
    """Seed of initialisation, order of the images, and dropout."""
    data: DataSection = DataSection()
    student: StudentSection = StudentSection()
    teacher: TeacherSection | None = None
    """Teacher; plain supervised training if left out."""
    objective: dict[str, AnyTerm] = Field(
        default={"cross_entropy": CrossEntropyTerm(term="cross_entropy")}, min_length=1
    )
    """Terms by name; `cross_entropy` is added unless it is set to null."""
    optimizer: OptimizerSection = OptimizerSection()
    schedule: ScheduleSection = ScheduleSection()
    ema: EMASection | None = None
    """Moving average of the weights; the weights themselves become the student if left out."""
    trainer: dict[str, Any] = Field(default={})
    """Arguments of Lightning's Trainer; `precision: auto` uses bfloat16 if the hardware supports it."""
    monitor: MonitorSection = MonitorSection()
    checkpoint: CheckpointSection = CheckpointSection()
    loggers: LoggersSection = LoggersSection()
    early_stopping: EarlyStoppingSection | None = None
    """When to stop before the last epoch; never if left out."""
    callbacks: list[str | dict[str, Any]] = Field(default=[])
    """Lightning callbacks: `package.module:Class`, or a mapping with this `name` and the arguments of the class."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str, info: ValidationInfo) -> str:
        recorded = bool(info.context and info.context.get("recorded"))
        return check_name(name, limit=None if recorded else MAX_LENGTH)

    @field_validator("trainer")
    @classmethod
    def _check_max_epochs(cls, trainer: dict[str, Any]) -> dict[str, Any]:
        epochs = trainer.get("max_epochs", 1)
        if type(epochs) is not int or epochs < 1:
            raise ValueError(f"max_epochs should be a whole number of at least 1, for the schedule, got {epochs!r}")
        return trainer

    @field_validator("objective", mode="before")
    @classmethod
    def _fill_in_names_of_terms(cls, terms: Any) -> Any:
        if not isinstance(terms, Mapping):
            return terms
        return {
            name: {"term": name, **value} if isinstance(value, Mapping) else value
            for name, value in {**{key: {} for key in DEFAULT_TERMS}, **terms}.items()
            if value is not None
        }

    @model_validator(mode="after")
    def _check_needs_of_terms(self) -> Config:
        active = {name: term for name, term in self.objective.items() if term.weight > 0}
        if not active:
            raise ValueError("objective needs at least one term with a weight above 0")
        for name, term in active.items():
            if term.needs_teacher and self.teacher is None:
                raise ValueError(f"objective.{name} needs a teacher: add teacher.checkpoint, or set its weight to 0")
        return self

    @property
    def directory(self) -> Path:
        """Path of the run directory."""
        return Path(self.output_dir) / self.name

    @property
    def max_epochs(self) -> int:
        """Number of epochs."""
        return int(self.trainer.get("max_epochs", 30))
