"""The sections of a configuration but for its terms: one typed record each, a line for every key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from distill.config.base import (
    NotNegative,
    OpenSection,
    Positive,
    Section,
)
from distill.config.terms import AnyTerm, CrossEntropyTerm


class Normalisation(Section):
    """Mean and standard deviation of every channel, in units of images in [0, 1]."""

    mean: list[float]
    std: list[Positive]


class ColourJitterSection(Section):
    """By how much colours change at random: a factor in [1 - x, 1 + x] for every image."""

    brightness: Annotated[float, Field(ge=0, le=1)] = 0.0
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.0
    saturation: Annotated[float, Field(ge=0, le=1)] = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0


class AugmentSection(Section):
    """Views of an image in training: a crop after padding, and a mirror image."""

    pad: Annotated[int, Field(ge=0)] = 4
    """Pixels added on each side before the crop; 0 leaves the crop out."""
    flip: bool = True
    """Whether half of the views are mirrored."""
    padding: Literal["zero", "reflect"] = "zero"
    """What the added pixels are."""
    views: Annotated[int, Field(ge=1)] | None = None
    """How many of the views each image takes, chosen by data.seed; all of them if left out."""
    colour_jitter: ColourJitterSection | None = None
    """Random colours; a teacher's cache is of no use with them."""


class DataSection(OpenSection):
    """Which images; other keys belong to the data set, see `distill list datasets`."""

    name: str = "fashion_scenes"
    """A data set of `distill list datasets`."""
    batch_size: Annotated[int, Field(ge=1)] = 128
    """Images a step, on each device."""
    eval_batch_size: Annotated[int, Field(ge=1)] = 256
    """Images a step where nothing is trained."""
    seed: int = 0
    """Fixes scenes, splits and views; runs that share it meet the same images in the same views."""
    workers: Annotated[int, Field(ge=0)] | None = None
    """Processes that decode images which do not lie in memory; a few if left out."""
    augment: AugmentSection = AugmentSection()
    """Views in training."""


class StudentSection(OpenSection):
    """The network that is trained; other keys are its own, such as `dropout`."""

    name: str = "wrn_16_2"
    """A network of `distill list models`, or `package.module:callable`."""
    normalisation: Normalisation | None = None
    """Input scaling; the training images' own statistics if left out."""
    compile: bool = False
    """Whether the forward pass in training goes through torch.compile."""


class TeacherSection(OpenSection):
    """The network that is learnt from; other keys are its own."""

    checkpoint: str
    """A run directory, .ckpt, .safetensors, or a plain state dict (.pth)."""
    name: str | None = None
    """Architecture; needed for a plain state dict, checked otherwise."""
    normalisation: Normalisation | None = None
    """Input scaling; needed for a plain state dict."""
    cache: Literal["off", "memory", "disk"] = "off"
    """Whether the teacher's logits and maps are kept by image and view, for this run or for all that share the disk."""
    cache_dir: str | None = None
    """Folder of a cache on disk; `teacher_cache` in output_dir if left out."""
    compile: bool = False
    """Whether the teacher's forward pass goes through torch.compile."""

    @field_validator("cache", mode="before")
    @classmethod
    def _off_is_a_word(cls, cache: Any) -> Any:
        return "off" if cache is False else cache  # which YAML takes `off` for


class OptimizerSection(Section):
    """Stochastic gradient descent."""

    name: Literal["sgd"] = "sgd"
    lr: Positive = 0.1
    """Learning rate at the start, or the peak of a one-cycle schedule."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: NotNegative = 5e-4
    decay_norm_and_bias: bool = True
    """Whether batch normalisation and biases are decayed as well."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> OptimizerSection:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class ScheduleSection(Section):
    """Learning rate over the epochs."""

    name: Literal["constant", "multi_step", "cosine", "one_cycle"] = "cosine"
    milestones: list[Annotated[int, Field(ge=1)]] = Field(default=[])
    """Epochs at which `multi_step` multiplies the rate by `gamma`."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1

    @model_validator(mode="after")
    def _milestones_belong_to_multi_step(self) -> ScheduleSection:
        if bool(self.milestones) != (self.name == "multi_step"):
            raise ValueError("milestones belong to name=multi_step, which needs at least one")
        return self


class MonitorSection(Section):
    """Which weights of a run are kept as its student: selected on the validation split, never on the test split."""

    metric: str = "validation/accuracy"
    mode: Literal["max", "min"] = "max"
    select: Literal["best", "last"] = "best"


class CheckpointSection(Section):
    """When the state of a run is saved, besides the end of every epoch."""

    every_n_steps: Annotated[int, Field(ge=1)] | None = None


class LoggersSection(Section):
    """Where metrics go besides metrics.csv."""

    tensorboard: bool = True


class Config(Section):
    """One run."""

    name: str = "run"
    """Name of the run directory."""
    output_dir: str = "runs"
    """Folder of the run directory."""
    seed: int = 0
    """Fixes initialisation, order and dropout."""
    data: DataSection = DataSection()
    student: StudentSection = StudentSection()
    teacher: TeacherSection | None = None
    """Left out for plain supervised training."""
    objective: dict[str, AnyTerm] = Field(
        default={"cross_entropy": CrossEntropyTerm(term="cross_entropy")}, min_length=1
    )
    """Terms by name; `cross_entropy` is there by itself, unless it is null or its weight 0."""
    optimizer: OptimizerSection = OptimizerSection()
    schedule: ScheduleSection = ScheduleSection()
    trainer: dict[str, Any] = Field(default={})
    """Handed to Lightning's Trainer as it is; `precision: auto` takes bfloat16 where the hardware has it."""
    monitor: MonitorSection = MonitorSection()
    checkpoint: CheckpointSection = CheckpointSection()
    loggers: LoggersSection = LoggersSection()

    @field_validator("trainer")
    @classmethod
    def _length_is_known(cls, trainer: dict[str, Any]) -> dict[str, Any]:
        epochs = trainer.get("max_epochs", 1)
        if type(epochs) is not int or epochs < 1:
            raise ValueError(f"max_epochs should be a whole number of at least 1, for the schedule, got {epochs!r}")
        return trainer

    @field_validator("objective", mode="before")
    @classmethod
    def _name_is_term(cls, terms: Any) -> Any:
        if not isinstance(terms, Mapping):
            return terms
        return {
            name: {"term": name, **value} if isinstance(value, Mapping) else value
            for name, value in {"cross_entropy": {}, **terms}.items()
            if value is not None
        }

    @model_validator(mode="after")
    def _terms_have_what_they_need(self) -> Config:
        if not any(term.weight > 0 for term in self.objective.values()):
            raise ValueError("objective needs at least one term with a weight above 0")
        taught = [n for n, term in self.objective.items() if term.weight > 0 and term.term != "cross_entropy"]
        if taught and self.teacher is None:
            raise ValueError(f"objective.{taught[0]} needs a teacher: add teacher.checkpoint, or set its weight to 0")
        return self

    @property
    def directory(self) -> Path:
        """The run directory."""
        return Path(self.output_dir) / self.name

    @property
    def max_epochs(self) -> int:
        """Length of the run in epochs."""
        return int(self.trainer.get("max_epochs", 30))
