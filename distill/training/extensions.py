"""Loggers and callbacks of Lightning by name."""

from __future__ import annotations

import importlib.util
import inspect
import os
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import pytorch_lightning.loggers as lightning_loggers
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers.logger import Logger

from distill.config import Config
from distill.errors import InputError, without_addresses
from distill.importing import import_attribute
from distill.training.run_directory import RunDirectory
from distill.training.tensorboard import TensorBoard

#: Class in pytorch_lightning.loggers, module that it needs, and name of the package for pip, by key of the section.
LOGGERS: Mapping[str, tuple[str, str, str]] = {
    "tensorboard": ("TensorBoardLogger", "tensorboard", "tensorboard"),
    "wandb": ("WandbLogger", "wandb", "wandb"),
    "mlflow": ("MLFlowLogger", "mlflow", "mlflow"),
    "comet": ("CometLogger", "comet_ml", "comet-ml"),
    "neptune": ("NeptuneLogger", "neptune", "neptune"),
}


def check_extensions(config: Config) -> None:
    """Check the sections ``loggers``, ``callbacks`` and ``early_stopping`` before any file is written.

    Raises:
        InputError: If a package is missing, a class cannot be imported, or an argument does not exist.
    """
    for name, arguments in _chosen(config).items():
        kind, module, package = LOGGERS[name]
        if not hasattr(lightning_loggers, kind):
            raise InputError(f"loggers.{name}: pytorch-lightning {version('pytorch-lightning')} has no {kind}.")
        if importlib.util.find_spec(module) is None:
            raise InputError(f"loggers.{name} needs the package {package}: pip install {package}")
        _check_arguments(f"loggers.{name}", getattr(lightning_loggers, kind), arguments)
    make_callbacks(config)


def make_loggers(config: Config, directory: RunDirectory) -> list[Logger]:
    """Return the loggers of a configuration.

    Each gets the run's name and directory, unless its section says otherwise.
    """
    return [_make_logger(name, arguments, config, directory) for name, arguments in _chosen(config).items()]


def finish_loggers(loggers: Iterable[Logger]) -> None:
    """End the records of loggers; otherwise W&B and Comet would add the next run of this process to the same record."""
    for logger in loggers:
        experiment = getattr(logger, "_experiment", None)
        finish = getattr(experiment, "finish", getattr(experiment, "end", None))
        if isinstance(logger, _ended()) and finish is not None:
            finish()


def _ended() -> tuple[type[Logger], ...]:
    """Return the classes of loggers whose record stays open after a run."""
    return tuple(kind for name in ("wandb", "comet") if (kind := getattr(lightning_loggers, LOGGERS[name][0], None)))


def make_callbacks(config: Config) -> list[Callback]:
    """Return the early stopping and the callbacks of a configuration.

    Raises:
        InputError: If a class cannot be imported, is no callback, or does not accept its arguments.
    """
    callbacks: list[Callback] = []
    if config.early_stopping is not None:
        arguments = {"monitor": config.monitor.metric, "mode": config.monitor.mode, **config.early_stopping.options}
        arguments["patience"] = config.early_stopping.patience
        callbacks.append(_make("early_stopping", EarlyStopping, arguments))
    for number, entry in enumerate(config.callbacks):
        where = f"callbacks[{number}]"
        arguments = dict(entry) if isinstance(entry, Mapping) else {"name": entry}
        name = arguments.pop("name", None)
        if not isinstance(name, str) or ":" not in name:
            raise InputError(f"{where}: expected package.module:Class, or a mapping with such a `name`, got {entry!r}.")
        callbacks.append(_make(where, _import(where, name), arguments))
    return callbacks


def _chosen(config: Config) -> dict[str, dict[str, Any]]:
    sections = {name: getattr(config.loggers, name) for name in LOGGERS}
    return {name: value if isinstance(value, dict) else {} for name, value in sections.items() if value is not False}


def _make_logger(name: str, arguments: dict[str, Any], config: Config, directory: RunDirectory) -> Logger:
    kind = TensorBoard if name == "tensorboard" else getattr(lightning_loggers, LOGGERS[name][0])
    if name == "tensorboard":
        given: dict[str, Any] = {"save_dir": directory.path, "name": "tensorboard", "version": ""}
    elif name == "mlflow":
        given = {"save_dir": str(directory.path / "mlruns"), "run_name": config.name}
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # otherwise MLflow 3 refuses to write to a folder
    elif name == "comet":
        given = {"offline_directory": str(directory.path), "name": config.name}
    else:
        given = {"save_dir": str(directory.path), "name": config.name}
    return _start(f"loggers.{name}", kind, {**given, **arguments})


def _start(where: str, kind: Any, arguments: Mapping[str, Any]) -> Logger:
    """Make a logger and its record; it would make the record at the first metric, in the middle of the training.

    Raises:
        InputError: If its package refuses, for example because of an unknown argument or a missing API key.
    """
    try:
        logger: Logger = _make(where, kind, arguments)
        if kind is not TensorBoard:
            logger.experiment  # type: ignore[attr-defined]  # noqa: B018
    except InputError:
        raise
    except Exception as error:  # each package has errors of its own
        problem = without_addresses(str(error)).strip() or type(error).__name__
        raise InputError(f"{where}: {kind.__name__}: {problem}") from error
    return logger


def _import(where: str, name: str) -> Any:
    kind = import_attribute(name, kind="class", suits=_is_callback, where=where)
    if not _is_callback(kind):
        raise InputError(f"{where}: {name!r} must be a subclass of pytorch_lightning.Callback.")
    return kind


def _is_callback(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Callback)


def _make(where: str, kind: Any, arguments: Mapping[str, Any]) -> Any:
    _check_arguments(where, kind, arguments)
    try:
        return kind(**arguments)
    except (TypeError, ValueError, ImportError, MisconfigurationException) as error:
        raise InputError(f"{where}: {kind.__name__}: {error}") from error


def _check_arguments(where: str, kind: Any, arguments: Mapping[str, Any]) -> None:
    try:
        inspect.signature(kind).bind_partial(**arguments)
    except TypeError as error:
        known = ", ".join(inspect.signature(kind).parameters)
        raise InputError(f"{where}: {kind.__name__}: {error} (known: {known})") from error
