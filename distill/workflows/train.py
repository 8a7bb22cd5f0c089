"""`train`: train a run from a configuration, or from keywords and objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import Logger
from torch import nn

from distill.build import (
    Objects,
    build,
    check_config,
    resolve_methods,
    run_identity,
    starting_weights_record,
    trust_in,
)
from distill.config import Config, format_mistakes, merge, replace_augment, validate
from distill.config.dotted_keys import merge_values, nested
from distill.errors import InputError
from distill.files import check_unlocked, locked
from distill.malloc import keep_freed_memory
from distill.training import RunDirectory, fit, is_first_process
from distill.training.csv_log import restore_metrics
from distill.training.run_directory import STARTING_WEIGHTS, State
from distill.untrusted import Trust
from distill.workflows.extension import check_extension, describe_extension, epochs_of_same_run
from distill.workflows.run import Run
from distill.workflows.train_arguments import TrainArguments

Overrides = Sequence[str] | Mapping[str, Any]


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
        notify: Called with messages about the teacher cache, damaged files, and a run that is not finished.
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
    arguments = TrainArguments(
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
    trust = trust_in(config, also=trust)
    config = resolve_methods(config, objects, trust=trust)
    identity = run_identity(config)
    first = is_first_process()
    if first:
        check_unlocked(directory.path)
    epochs = None if overwrite else epochs_of_same_run(directory, config)
    state: State = "resume"
    if epochs is not None:
        check_extension(directory, config, epochs=epochs, extend=extend)
    else:
        state = directory.state(identity, overwrite=overwrite)
    if state == "done":
        if first and (message := restore_metrics(directory)) and notify is not None:
            notify(message)
        return Run(directory.path, "done", config, objects, trust=trust)
    run = build(config, objects, trust=trust, resumed=state == "resume")
    if run.cache is not None and notify is not None:
        notify(f"teacher cache: {run.cache}")
    with locked(directory.path, doing="training") if first else nullcontext():
        if epochs is not None and first:
            directory.extend(config, identity, epochs=epochs)
            if notify is not None:
                notify(describe_extension(config, epochs))
        also: dict[str, Any] = {"skipped_images": dict(run.skipped)} if run.skipped else {}
        if weights := starting_weights_record(config):
            also[STARTING_WEIGHTS] = weights
        action = directory.open(config, identity, overwrite=overwrite, also=also) if first else "resume"
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
        values = merge_values(
            values, replace_augment(nested(source)) if isinstance(source, Mapping) else merge([source])
        )
    values = merge_values(values, replace_augment(keywords))
    last = replace_augment(nested(overrides)) if isinstance(overrides, Mapping) else merge([], overrides)
    values = merge_values(values, last)
    config, mistakes = validate(values, check=check_config)
    if config is None:
        raise InputError(format_mistakes(mistakes, "the configuration"))
    return config
