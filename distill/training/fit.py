"""Train one run: build the Trainer, resume from the last checkpoint and save the selected student."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import Logger

from distill.config import Config
from distill.errors import InputError, RunError, warn_input
from distill.files import storage_errors
from distill.models import save_model
from distill.training.best_checkpoint import BestCheckpoint
from distill.training.callbacks import DataWait, NotFiniteError
from distill.training.checkpoint_files import find_resume_point, read_checkpoint
from distill.training.ema import EMA, EMA_STATE
from distill.training.extensions import finish_loggers
from distill.training.failed_step import FiniteState
from distill.training.longer_schedule import LongerSchedule
from distill.training.module import DistillationModule
from distill.training.processes import ResumeWithOtherProcesses, watch_processes
from distill.training.replay import keep_failed_step
from distill.training.run_directory import RunDirectory
from distill.training.stopping import GracefulStop, TimeLimitReached
from distill.training.tensorboard import quiet_writer
from distill.training.trainer import IGNORED_WARNINGS, make_trainer


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
    finite = FiniteState()
    with storage_errors(directory.path, failed="cannot be read or written"):
        directory.drop_metrics_hash()
        trainer = make_trainer(
            config,
            directory,
            start=start,
            notify=notify,
            callbacks=[*longer, ResumeWithOtherProcesses(notify), *own, *callbacks, finite],
            loggers=loggers,
        )
        problem: NotFiniteError | None = None
        every: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        stop = next(callback for callback in every if isinstance(callback, GracefulStop))
        with warnings.catch_warnings(), quiet_writer(), stop.handle_signals():
            for message in IGNORED_WARNINGS:
                warnings.filterwarnings("ignore", message=f".*{message}.*")
            try:
                with watch_processes(trainer, directory.last):
                    trainer.fit(module, datamodule=data, ckpt_path=start.path, weights_only=True)
            except TimeLimitReached as reached:
                notify(f"{config.name}: {reached}")
                return False
            except NotFiniteError as error:
                problem = error
            finally:
                finish_loggers(each for each in trainer.loggers if each not in loggers)
        if problem is not None:
            try:
                found = keep_failed_step(module, data, config, finite.state, until=problem.step, callbacks=callbacks)
            except Exception as error:  # whatever fails here must not hide the problem
                found = f"The step was not kept: {error}"
            raise RunError(f"{problem} {found}") from problem
        if trainer.is_global_zero:
            wait = next(callback for callback in every if isinstance(callback, DataWait))
            directory.store_metrics_hash(data_wait=wait.share)
            best = next(callback for callback in every if isinstance(callback, BestCheckpoint))
            if config.monitor.select == "best" and best.best_model_score is not None and not directory.best.exists():
                raise InputError(
                    f"{directory.best} is gone, although this run saved it. Copy it back and run the same command "
                    "again, or train from the start with --overwrite."
                )
            save_student(module, directory, select=config.monitor.select, average=average)
            directory.previous.unlink(missing_ok=True)
    return True


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


def _ignore(message: str) -> None:
    """Do nothing with a message."""
