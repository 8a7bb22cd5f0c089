"""Train one run: build the Trainer, resume from the last checkpoint and save the selected student."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import CheckpointIO
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import Logger

from distill.config import Config
from distill.errors import InputError, warn_input, without_addresses
from distill.files import storage_errors
from distill.models import save_model
from distill.training.best_checkpoint import BestCheckpoint
from distill.training.callbacks import ExactResume, FiniteLossGuard, RunProgress, checkpoints
from distill.training.checkpoint_files import AtomicCheckpointIO, ResumePoint, find_resume_point, read_checkpoint
from distill.training.csv_log import MetricsFile, MetricsRecord, describe_rebuilt
from distill.training.ema import EMA, EMA_STATE
from distill.training.extensions import check_extensions, make_callbacks, make_loggers
from distill.training.longer_schedule import LongerSchedule
from distill.training.module import DistillationModule
from distill.training.processes import ResumeWithOtherProcesses, watch_processes
from distill.training.run_directory import RunDirectory
from distill.training.stopping import GracefulStop, TimeLimitReached
from distill.training.tensorboard import quiet_writer


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
_IGNORED_WARNINGS = (
    "does not have many workers",
    "You defined a `validation_step` but",
    "The number of training batches",
    "exists and is not empty",
    "You have overridden `on_before_batch_transfer`",
    "You requested to overfit",
    r"isinstance\(treespec, LeafSpec\)",
)
_BEGINNING = ResumePoint(None, 0)


def fit(
    module: DistillationModule,
    data: pl.LightningDataModule,
    config: Config,
    *,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    notify: Callable[[str], None] | None = None,
    extended: bool = False,
) -> bool:
    """Train from the last checkpoint, or from the start if there is none, and save the student.

    Args:
        module: The module to train.
        data: The training and validation batches.
        config: The configuration of the run; its directory must have been opened.
        callbacks: Added to the callbacks of every run.
        loggers: Added to metrics.csv and the loggers of the configuration.
        notify: Called with a message if a damaged checkpoint is passed over, a damaged metrics.csv is
            rebuilt, or ``trainer.max_time`` ends the run.
        extended: Whether the run was started with fewer epochs; its schedule is computed for the new number.

    Returns:
        Whether the run is finished. If ``trainer.max_time`` ended it, no student is saved, and the run can resume.

    Raises:
        RunError: if a loss is not finite, or the user stops the run.
        StorageError: if a file cannot be written, for example because the disk is full. The last checkpoint is kept.
        InputError: if Lightning rejects the ``trainer`` section, no checkpoint of the run can be read, or the best
            one is gone.
    """
    directory = RunDirectory(config.directory)
    notify = notify or _ignore
    start = find_resume_point(directory)
    if start.message:
        notify(start.message)
    average = EMA(config.ema) if config.ema else None
    own = [average] if average else []
    longer = [LongerSchedule()] if extended or directory.extended else []
    with storage_errors(directory.path, failed="cannot be read or written"):
        directory.drop_metrics_hash()
        trainer = make_trainer(
            config,
            directory,
            start=start,
            notify=notify,
            callbacks=[*longer, ResumeWithOtherProcesses(notify), *own, *callbacks],
            loggers=loggers,
        )
        every: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        stop = next(callback for callback in every if isinstance(callback, GracefulStop))
        with warnings.catch_warnings(), quiet_writer(), stop.handle_signals():
            for message in _IGNORED_WARNINGS:
                warnings.filterwarnings("ignore", message=f".*{message}.*")
            try:
                with watch_processes(trainer, directory.last):
                    trainer.fit(module, datamodule=data, ckpt_path=start.path, weights_only=True)
            except TimeLimitReached as reached:
                notify(f"{config.name}: {reached}")
                return False
        if trainer.is_global_zero:
            directory.store_metrics_hash()
            best = next(callback for callback in every if isinstance(callback, BestCheckpoint))
            if config.monitor.select == "best" and best.best_model_score is not None and not directory.best.exists():
                raise InputError(
                    f"{directory.best} is gone, although this run saved it. Copy it back and run the same command "
                    "again, or train from the start with --overwrite."
                )
            save_student(module, directory, select=config.monitor.select, average=average)
            directory.previous.unlink(missing_ok=True)
    return True


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
    metrics = MetricsFile(directory.metrics, first_step=start.step, record=start.metrics)
    if metrics.rebuilt and notify is not None and start.path is not None:
        notify(describe_rebuilt(directory.metrics, start.path))
    all_callbacks: list[Callback] = [
        FiniteLossGuard(),
        ExactResume(),
        MetricsRecord(metrics),
        *checkpoints(directory.last.parent, config.monitor, config.checkpoint),
        GracefulStop(directory.last, max_time=config.trainer.get("max_time")),
        *make_callbacks(config),
    ]
    if config.trainer.get("enable_progress_bar", True):
        all_callbacks.append(RunProgress(config.name))
    all_loggers: list[Logger] = [metrics, *make_loggers(config, directory)]
    return _trainer(
        config,
        logger=[*all_loggers, *loggers],
        callbacks=[*all_callbacks, *callbacks],
        default_root_dir=directory.path,
        plugins=_with_checkpoint_files(config.trainer.get("plugins"), directory),
        max_time=None,  # GracefulStop ends the run, because Lightning's own end is not resumed exactly
    )


def _with_checkpoint_files(plugins: Any, directory: RunDirectory) -> list[Any]:
    """Add the writer of checkpoints to the plugins of the configuration, unless they contain another one."""
    given = [] if plugins is None else list(plugins) if isinstance(plugins, list | tuple) else [plugins]
    own = [] if any(isinstance(plugin, CheckpointIO) for plugin in given) else [AtomicCheckpointIO(directory)]
    return [*given, *own]


def _ignore(message: str) -> None:
    """Do nothing with a message."""


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


def save_student(
    module: DistillationModule, directory: RunDirectory, *, select: str, average: EMA | None = None
) -> Path:
    """Save the student's weights without optimiser state: those of the best checkpoint, or the current ones.

    Args:
        module: The trained module.
        directory: Where the checkpoints are and the weights are saved.
        select: ``best``, by the monitored metric, or ``last``.
        average: The moving average of the weights; its weights are saved.

    Returns:
        Path of the weights.

    Raises:
        InputError: if the best checkpoint cannot be read.
        StorageError: if the weights cannot be written.
    """
    directory.check_exists()
    if select == "best" and directory.best.exists():
        state = read_checkpoint(directory.best)[EMA_STATE if average else "state_dict"]
        prefix = "student."
        module.student.load_state_dict({k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)})
    elif average is not None:
        average.apply(module)
    if select == "best" and not directory.best.exists():
        warn_input(
            f"{directory.path}: the monitored metric was never measured, so the student has the weights of the last "
            "step. Check `monitor` and the keys of `trainer` that limit the validation."
        )
    return save_model(module.student, directory.path)
