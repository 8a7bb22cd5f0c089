"""`train`: train a run from a configuration, or from keywords and objects."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import Logger
from torch import nn

from distill.build import Objects, build, check_config, run_identity, split_terms, trust_in
from distill.build.finished_run import load_reference
from distill.build.teacher_cache import checksum
from distill.config import Config, Term, format_mistakes, merge, validate
from distill.config.dotted_keys import merge_values, nested
from distill.data import ImageSet, as_image_set, partition
from distill.errors import InputError
from distill.files import check_unlocked, locked
from distill.malloc import keep_freed_memory
from distill.models import StagedNetwork, load_model
from distill.models.class_names import class_difference
from distill.objects import object_name
from distill.report import read_curves
from distill.report.common.curves import read_best_row
from distill.training import RunDirectory, fit, is_first_process
from distill.untrusted import Trust
from distill.workflows.extension import check_extension, describe_extension, epochs_of_same_run

Overrides = Sequence[str] | Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Run:
    """A run.

    Args:
        directory: The run directory.
        action: ``new`` (trained from the start), ``resume`` (resumed) or ``done`` (the run was already finished).
        config: The resolved configuration.
        objects: The Python objects that were passed.
        finished: Whether the run is finished. A run that ``trainer.max_time`` ended is not, and has no student yet.
        trust: Names ``package.module:callable`` that the user wrote, and that may be imported again.
    """

    directory: Path
    action: Literal["new", "resume", "done"]
    config: Config
    objects: Objects = field(default_factory=Objects, repr=False)
    finished: bool = True
    trust: Trust = field(default_factory=Trust, repr=False)

    @cached_property
    def student(self) -> StagedNetwork:
        """The trained student, in evaluation mode. It takes images in [0, 1]."""
        return load_model(self.directory, network=self.objects.student, trust=self.trust)

    @cached_property
    def teacher(self) -> StagedNetwork | None:
        """The teacher, in evaluation mode, or None if the run has none."""
        section = self.config.teacher
        if section is None:
            return None
        network = self.objects.teacher
        return load_reference(section.checkpoint, section, self.student, network=network, trust=self.trust)

    @property
    def metrics(self) -> dict[str, float]:
        """The logged metrics of the epoch whose weights the student has, such as ``validation/accuracy``."""
        return selected_metrics(self.config)


def train(
    *configs: str | Path | Mapping[str, Any],
    student: str | Mapping[str, Any] | nn.Module | Callable[..., nn.Module] | None = None,
    teacher: str | Path | Mapping[str, Any] | nn.Module | Run | None = None,
    data: Any = None,
    objective: Mapping[str, Any] | None = None,
    explanation: float | Mapping[str, Any] | None = None,
    epochs: int | None = None,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] | Mapping[str, Any] = (),
    overrides: Overrides = (),
    overwrite: bool = False,
    extend: bool = False,
    trust: bool = False,
    notify: Callable[[str], None] | None = None,
    **sections: Any,
) -> Run:
    """Train a teacher, a baseline or a student. If the run exists, resume or return it.

    Convention:
        - Later values override earlier ones, in this order: configuration files and mappings from left to right,
          keywords, ``overrides``.
        - The same call resumes an unfinished run and returns a finished one. A different call needs another ``name`` or
          ``overwrite=True``.
        - Networks that are passed as objects are copied and do not change.
        - An object cannot be rebuilt from the run directory. It is recorded with its class and a hash of its content,
          and must be passed again to evaluate the run in another process.

    Args:
        configs: YAML files, or mappings with the same keys.
        student: A name (`distill list models`), a mapping with the keys of the ``student`` section, a network, or a
            class or function that returns one and can be imported.
        teacher: A run directory or file of weights, a finished run, a mapping with the keys of the ``teacher`` section,
            or a network. A plain network needs its normalisation: ``{"network": net, "normalisation": {"mean": ...,
            "std": ...}}``.
        data: A name (`distill list datasets`), a mapping with the keys of the ``data`` section, a data set of (image,
            label) (see :func:`distill.data.as_image_set`), or a pair (training, validation) of data sets. One tenth of
            a single data set is used for validation.
        objective: Terms by name. Each is a weight, a mapping with the keys of the term, or None to remove
            ``cross_entropy``. A third-party term is an ``nn.Module``, or ``{"term": module, "weight": 2}``; see
            docs/terms.md.
        explanation: Weight of the explanation term, or a mapping with its keys.
        epochs: Number of epochs; sets ``trainer.max_epochs``.
        callbacks: Lightning callbacks.
        loggers: Lightning loggers, or a mapping with the keys of the ``loggers`` section.
        overrides: ``"key.path=value"`` strings, or a mapping of dotted keys.
        overwrite: Whether to replace another run in the same directory.
        extend: Whether to continue a run that was started with fewer epochs. A schedule that depends on their number
            is computed for the new number.
        trust: Whether the teacher's files may name any code to import. By default, they may name only what the
            configuration names.
        notify: Called with messages about the teacher cache, damaged checkpoints, and a run that is not finished.
        sections: Other keys of a configuration, such as ``seed``, ``name``, ``output_dir``, ``optimizer``, ``trainer``.

    Returns:
        The run. It is finished unless ``trainer.max_time`` ended it; the same call goes on.

    Raises:
        InputError: if the configuration or an object is wrong, or if the directory contains another run or is in use
            by another process. No file is written.
        RunError: if training fails. The last checkpoint is kept.

    Example:
        >>> import tempfile, distill
        >>> tiny = {"size": 16, "count": 40, "batch_size": 20}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = distill.train(
        ...         student="wrn_10_1", data=tiny, epochs=1, output_dir=folder,
        ...         trainer={"enable_progress_bar": False}, loggers={"tensorboard": False},
        ...     )
        ...     run.action, sorted(path.name for path in run.directory.iterdir())[-2:]
        ('new', ['student.json', 'student.safetensors'])
    """
    arguments = _Arguments(
        student=student, teacher=teacher, data=data, objective=objective, explanation=explanation, epochs=epochs
    )
    objects = arguments.objects(callbacks=callbacks, loggers=() if isinstance(loggers, Mapping) else loggers)
    keywords = arguments.keywords | ({"loggers": loggers} if isinstance(loggers, Mapping) else {})
    config = make_config(configs, merge_values(nested(sections), keywords), overrides)
    trusted = Trust(everything=True) if trust else teacher.trust if isinstance(teacher, Run) else Trust()
    objects = arguments.with_data(objects, config)
    return train_config(config, objects, overwrite=overwrite, extend=extend, trust=trusted, notify=notify)


def train_config(
    config: Config,
    objects: Objects | None = None,
    *,
    overwrite: bool = False,
    extend: bool = False,
    trust: Trust | bool = False,
    notify: Callable[[str], None] | None = None,
) -> Run:
    """Train a run from its resolved configuration, which the user wrote; see :func:`train`."""
    keep_freed_memory()
    objects = objects or Objects()
    directory = RunDirectory(config.directory)
    identity = run_identity(config)
    trust = trust_in(config, also=trust)
    first = is_first_process()
    if first:
        check_unlocked(directory.path)
    epochs = None if overwrite else epochs_of_same_run(directory, config)
    if epochs is not None:
        check_extension(directory, config, epochs=epochs, extend=extend)
    elif directory.state(identity, overwrite=overwrite) == "done":
        return Run(directory.path, "done", config, objects, trust=trust)
    run = build(config, objects, trust=trust)
    if run.cache is not None and notify is not None:
        notify(f"teacher cache: {run.cache}")
    with locked(directory.path, doing="training") if first else nullcontext():
        if epochs is not None and first:
            directory.extend(config, identity, epochs=epochs)
            if notify is not None:
                notify(describe_extension(config, epochs))
        action = directory.open(config, identity, overwrite=overwrite) if first else "resume"
        finished = action == "done" or fit(
            run.module,
            run.data,
            config,
            callbacks=objects.callbacks,
            loggers=objects.loggers,
            notify=notify,
            extended=epochs is not None,
        )
    return Run(directory.path, action, config, objects, finished, trust)


def make_config(
    configs: Sequence[str | Path | Mapping[str, Any]], keywords: Mapping[str, Any], overrides: Overrides
) -> Config:
    """Merge files, mappings, keywords and overrides from left to right, and check the result.

    Raises:
        InputError: if the configuration is wrong. The message lists all mistakes, one per line.
    """
    values: Any = {}
    for source in configs:
        values = merge_values(values, nested(source) if isinstance(source, Mapping) else merge([source]))
    values = merge_values(values, keywords)
    values = merge_values(values, nested(overrides) if isinstance(overrides, Mapping) else merge([], overrides))
    config, mistakes = validate(values, check=check_config)
    if config is None:
        raise InputError(format_mistakes(mistakes, "the configuration"))
    return config


def selected_metrics(config: Config) -> dict[str, float]:
    """Return the metrics of the epoch whose weights the student has: the best or the last epoch."""
    series = read_curves(config.directory, run=config.name).series
    watched = series.get(config.monitor.metric, [])
    if not watched:
        return {}
    best = max if config.monitor.mode == "max" else min
    epoch = watched[-1][0] if config.monitor.select == "last" else best(watched, key=lambda point: point[1])[0]
    metrics = {name: dict(points)[epoch] for name, points in series.items() if epoch in dict(points)}
    if config.monitor.select == "best":  # an epoch can have several validations
        metrics |= read_best_row(config.directory, config.monitor.metric, highest=config.monitor.mode == "max")
    return metrics


class _Arguments:
    """The keywords of :func:`train`, separated into values of a configuration and objects."""

    def __init__(
        self,
        *,
        student: Any,
        teacher: Any,
        data: Any,
        objective: Mapping[str, Any] | None,
        explanation: float | Mapping[str, Any] | None,
        epochs: int | None,
    ) -> None:
        self.keywords: dict[str, Any] = {}
        self.networks: dict[str, nn.Module] = {}
        self.sets: tuple[ImageSet, ...] = ()
        if student is not None:
            self._network("student", "name", student)
        if teacher is not None:
            self._network("teacher", "checkpoint", str(teacher.directory) if isinstance(teacher, Run) else teacher)
        if data is not None:
            self._data(data)
        values, self.terms = split_terms(objective or {})
        terms = {name: _term(name, term) for name, term in values.items()}
        if explanation is not None:
            terms["explanation"] = merge_values(terms.get("explanation", {}), _term("explanation", explanation))
        if terms:
            self.keywords["objective"] = terms
        if epochs is not None:
            self.keywords["trainer"] = {"max_epochs": epochs}

    def objects(self, *, callbacks: Sequence[Callback], loggers: Sequence[Logger]) -> Objects:
        """Return the objects without the data. Splitting the data needs the configuration, see :meth:`with_data`."""
        return Objects(
            student=self.networks.get("student"),
            teacher=self.networks.get("teacher"),
            terms=self.terms,
            callbacks=tuple(callbacks),
            loggers=tuple(loggers),
        )

    def with_data(self, objects: Objects, config: Config) -> Objects:
        """Return ``objects`` with the images, split into training and validation."""
        if not self.sets:
            return objects
        if len(self.sets) == 2:
            return objects._replace(train=self.sets[0], validation=self.sets[1])
        fraction = float(config.data.options.get("validation", 0.1))
        parts = partition(self.sets[0].labels, seed=config.data.seed, validation=fraction)
        train, validation = (self.sets[0].subset(parts[name]) for name in ("train", "validation"))
        if not len(validation):
            raise InputError(
                f"data: {len(self.sets[0])} images are too few for a validation split. Pass (training, validation)."
            )
        return objects._replace(train=train, validation=validation)

    def _network(self, section: str, key: str, value: Any) -> None:
        rest: dict[str, Any] = {}
        if isinstance(value, Mapping):
            rest = {name: part for name, part in value.items() if name != "network"}
            value = value.get("network")
        if isinstance(value, nn.Module):
            self.networks[section] = value
            rest[key] = object_name(value, _weights_hash(value))
        elif isinstance(value, str | Path):
            rest[key] = str(value)
        elif callable(value):
            rest[key] = _import_path(section, value)
        elif value is not None:
            raise InputError(f"{section}: expected a name, a mapping or a network, got {type(value).__name__}.")
        self.keywords[section] = rest

    def _data(self, data: Any) -> None:
        if isinstance(data, str | Mapping):
            self.keywords["data"] = {"name": data} if isinstance(data, str) else dict(data)
            return
        pair = data if isinstance(data, tuple) and len(data) == 2 else (data,)
        names = ("training data", "validation data") if len(pair) == 2 else ("data",)
        first = as_image_set(pair[0], name=names[0])
        for one in pair[1:]:
            if difference := class_difference(first.classes, tuple(map(str, getattr(one, "classes", ())))):
                raise InputError(
                    f"data: training and validation data have different classes: {difference}. Give both the same "
                    "classes in the same order."
                )
        others = [as_image_set(one, classes=first.classes, name=names[-1]) for one in pair[1:]]
        self.sets = (first, *others)
        for other in others:
            if other.classes != first.classes or other.images.shape[1:] != first.images.shape[1:]:
                raise InputError(
                    f"data: training and validation data must have the same classes and image size, got "
                    f"{len(first.classes)} classes of {tuple(first.images.shape[1:])} and {len(other.classes)} of "
                    f"{tuple(other.images.shape[1:])}."
                )
        content = hashlib.sha256("/".join(checksum(one) for one in self.sets).encode()).hexdigest()
        size = first.images.shape[-1]
        self.keywords["data"] = {"name": object_name(pair[0], content), "size": size}


def _term(name: str, term: Any) -> Any:
    """Return the keys of a term that is given as a weight, a mapping, the record of a module, or None."""
    if isinstance(term, Term):
        return term.model_dump(mode="json")
    if term is None or isinstance(term, Mapping):
        return term
    if isinstance(term, int | float):
        return {"weight": term}
    raise InputError(f"objective.{name}: expected a weight, a mapping, a module or None, got {type(term).__name__}.")


def _weights_hash(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _import_path(section: str, value: Callable[..., Any]) -> str:
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    imported: Any = sys.modules.get(module or "")
    for part in name.split("."):
        imported = getattr(imported, part, None)
    if module in (None, "__main__") or imported is not value:
        raise InputError(
            f"{section}: {name or value!r} cannot be imported from a module. Pass the network that it returns."
        )
    return f"{module}:{name}"
