"""Train one run: build the Trainer, resume from the last checkpoint, save the selected student."""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.loggers.logger import Logger

from distill.config import Config
from distill.errors import InputError
from distill.models import save_model
from distill.training.callbacks import ExactResume, FiniteLossGuard, GracefulStop, RunProgress, checkpoints
from distill.training.csv_log import MetricsFile
from distill.training.module import DistillationModule
from distill.training.run_directory import RunDirectory


def resolve_precision(precision: str | int, accelerator: str = "auto") -> str | int:
    """Replace ``auto`` by bfloat16 autocast where the hardware computes in it, else by float32.

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


_QUIET = (
    "does not have many workers",
    "You defined a `validation_step` but",
    "The number of training batches",
    "exists and is not empty",
    "You have overridden `on_before_batch_transfer`",
)


def fit(
    module: DistillationModule,
    data: pl.LightningDataModule,
    config: Config,
    *,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
) -> None:
    """Train until the run is done, from its last state if it has one, and keep its student.

    Args:
        module: The student with all that trains it.
        data: Batches.
        config: The run; its directory must be open.
        callbacks: Added to those of every run.
        loggers: Added to metrics.csv and those of the configuration.

    Raises:
        RunError: if a loss is no finite number, or the user stops the run.
        InputError: if Lightning does not take the ``trainer`` section.
    """
    directory = RunDirectory(config.directory)
    state = directory.last if directory.last.exists() else None
    first_step = _steps_made(state)
    trainer = make_trainer(config, directory, first_step=first_step, callbacks=callbacks, loggers=loggers)
    with warnings.catch_warnings():
        for message in _QUIET:
            warnings.filterwarnings("ignore", message=f".*{message}.*")
        trainer.fit(module, datamodule=data, ckpt_path=state, weights_only=True)
    if trainer.is_global_zero:
        keep_student(module, directory, select=config.monitor.select)


def check_trainer(config: Config) -> None:
    """See that Lightning takes the ``trainer`` section, before anything is written.

    Raises:
        InputError: if it does not.
    """
    make_trainer_for_inference(config)


def make_trainer_for_inference(config: Config) -> pl.Trainer:
    """Build a Trainer for its device and precision alone; it writes nothing."""
    return _trainer(config, logger=False, enable_checkpointing=False)


def make_trainer(
    config: Config,
    directory: RunDirectory,
    *,
    first_step: int = 0,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
) -> pl.Trainer:
    """Build Lightning's Trainer: ours in what a run needs, the user's in the rest."""
    all_callbacks: list[Callback] = [
        FiniteLossGuard(),
        ExactResume(),
        *checkpoints(directory.last.parent, config.monitor, config.checkpoint),
        GracefulStop(directory.last),
    ]
    if config.trainer.get("enable_progress_bar", True):
        all_callbacks.append(RunProgress(config.name))
    all_loggers: list[Logger] = [MetricsFile(directory.metrics, first_step=first_step)]
    if config.loggers.tensorboard:
        all_loggers.append(TensorBoardLogger(directory.path, name="tensorboard", version=""))
    return _trainer(
        config,
        logger=[*all_loggers, *loggers],
        callbacks=[*all_callbacks, *callbacks],
        default_root_dir=directory.path,
    )


def _trainer(config: Config, **ours: Any) -> pl.Trainer:
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    section = dict(config.trainer)
    section["precision"] = resolve_precision(section.get("precision", "auto"), str(section.get("accelerator", "auto")))
    settings: dict[str, Any] = {
        "max_epochs": config.max_epochs,
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        **ours,
        **section,
        "enable_progress_bar": False,
        "use_distributed_sampler": False,
    }
    try:
        return pl.Trainer(**settings)
    except (ValueError, TypeError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise InputError(f"trainer: {error}") from error


def keep_student(module: DistillationModule, directory: RunDirectory, *, select: str) -> Path:
    """Write the weights that were selected on the validation split, without anything that only training needs."""
    if select == "best" and directory.best.exists():
        state = torch.load(directory.best, map_location="cpu", weights_only=True)["state_dict"]
        prefix = "student."
        module.student.load_state_dict({k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)})
    return save_model(module.student, directory.path)


def _steps_made(state: Path | None) -> int:
    if state is None:
        return 0
    try:
        return int(torch.load(state, map_location="cpu", weights_only=True, mmap=True)["global_step"])
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{state} cannot be read, so the run cannot go on from it; delete it, or start again with --overwrite."
        ) from error
