"""The Trainer of a run: Lightning's, with the callbacks, loggers and files that every run has."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import CheckpointIO
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import DummyLogger, Logger

from distill.config import Config
from distill.errors import InputError, without_addresses
from distill.training.callbacks import DataWait, ExactResume, FiniteLossGuard, RunProgress, checkpoints
from distill.training.checkpoint_files import AtomicCheckpointIO, ResumePoint
from distill.training.csv_log import MetricsFile, MetricsRecord, describe_rebuilt
from distill.training.extensions import check_extensions, make_callbacks, make_loggers
from distill.training.run_directory import RunDirectory
from distill.training.stopping import GracefulStop


def resolve_precision(precision: str | int, accelerator: str = "auto") -> str | int:
    """Replace ``auto`` by bfloat16 autocast if the hardware supports bfloat16, else by float32.

    Example:
        >>> resolve_precision("32-true")
        '32-true'
    """
    if precision != "auto":
        return precision
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    capable = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bf16-mixed" if capable and accelerator in ("auto", "cpu") else "32-true"


#: Lightning's warnings that do not apply here.
IGNORED_WARNINGS = (
    "does not have many workers",
    "You defined a `validation_step` but",
    "The number of training batches",
    "exists and is not empty",
    "You have overridden `on_before_batch_transfer`",
    "You requested to overfit",
    "Be aware that when using `ckpt_path`",
    r"isinstance\(treespec, LeafSpec\)",
)


_BEGINNING = ResumePoint(None, 0)


def check_trainer(config: Config) -> None:
    """Check the ``trainer`` section, loggers and callbacks before any file is written.

    Raises:
        InputError: if Lightning rejects them, or the weights would have half precision.
    """
    precision = config.trainer.get("precision")
    if precision in ("bf16-true", "16-true"):
        raise InputError(
            f"trainer.precision: {precision} is not supported, since images and teacher are float32; use "
            f"{precision.removesuffix('true')}mixed."
        )
    check_extensions(config)
    make_trainer_for_inference(config)


def make_trainer_for_inference(config: Config) -> pl.Trainer:
    """Return a Trainer with the device and precision of a run that writes no files."""
    return _trainer(config, logger=False, enable_checkpointing=False)


def make_trainer(
    config: Config,
    directory: RunDirectory,
    *,
    start: ResumePoint = _BEGINNING,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    notify: Callable[[str], None] | None = None,
) -> pl.Trainer:
    """Return the Trainer of a run, with the callbacks and loggers that every run has.

    Args:
        config: The configuration; keys of its ``trainer`` section override the defaults.
        directory: Where checkpoints and metrics are written.
        start: The checkpoint that the run resumes from.
        callbacks: Added to the callbacks of every run.
        loggers: Added to the loggers of every run.
        notify: Called with a message if a damaged metrics.csv is rebuilt.
    """
    wait = DataWait()
    metrics = MetricsFile(directory.metrics, first_step=start.step, record=start.metrics)
    if metrics.rebuilt and notify is not None and start.path is not None:
        notify(describe_rebuilt(directory.metrics, start.path))
    all_callbacks: list[Callback] = [
        wait,
        FiniteLossGuard(),
        ExactResume(),
        MetricsRecord(metrics),
        *checkpoints(directory.last.parent, config.monitor, config.checkpoint),
        GracefulStop(directory.last, max_time=config.trainer.get("max_time")),
        *make_callbacks(config),
    ]
    if config.trainer.get("enable_progress_bar", True):
        all_callbacks.append(RunProgress(config.name, wait=wait))
    all_loggers: list[Logger] = [metrics, *make_loggers(config, directory)]
    return _trainer(
        config,
        logger=[*all_loggers, *loggers],
        callbacks=[*all_callbacks, *callbacks],
        default_root_dir=directory.path,
        plugins=_with_checkpoint_files(config.trainer.get("plugins"), directory),
        max_time=None,  # GracefulStop ends the run, because Lightning's own end is not resumed exactly
    )


def make_quiet_trainer(config: Config, directory: RunDirectory, *, callbacks: Sequence[Callback]) -> pl.Trainer:
    """Return a Trainer with the device, precision and limits of a run, which reads checkpoints and writes no files."""
    return _trainer(
        config,
        logger=DummyLogger(),  # some callbacks need a logger
        enable_checkpointing=False,
        callbacks=list(callbacks),
        default_root_dir=directory.path,
        plugins=_with_checkpoint_files(config.trainer.get("plugins"), directory),
        max_time=None,
    )


def _with_checkpoint_files(plugins: Any, directory: RunDirectory) -> list[Any]:
    """Add the writer of checkpoints to the plugins of the configuration, unless they contain another one."""
    given = [] if plugins is None else list(plugins) if isinstance(plugins, list | tuple) else [plugins]
    own = [] if any(isinstance(plugin, CheckpointIO) for plugin in given) else [AtomicCheckpointIO(directory)]
    return [*given, *own]


#: Keys of the ``trainer`` section from which :func:`make_trainer` makes arguments of its own.
_MERGED = ("plugins", "max_time")


def _trainer(config: Config, **arguments: Any) -> pl.Trainer:
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    section = {key: value for key, value in config.trainer.items() if key not in _MERGED or key not in arguments}
    section["precision"] = resolve_precision(section.get("precision", "auto"), str(section.get("accelerator", "auto")))
    settings: dict[str, Any] = {
        "max_epochs": config.max_epochs,
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        **arguments,
        **section,
        "enable_progress_bar": False,
        "use_distributed_sampler": False,
    }
    try:
        return pl.Trainer(**settings)
    except (ValueError, TypeError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise InputError(f"trainer: {without_addresses(str(error))}") from error
