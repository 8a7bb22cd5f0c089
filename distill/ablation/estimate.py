"""Estimate how long a run takes, from its first few steps; nothing is kept."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from distill.build import build, build_student, load_images
from distill.config import Config
from distill.models import save_model
from distill.models.weights import WEIGHTS_NAME
from distill.training import make_trainer_for_inference

_STEPS, _WARM = 8, 3


def estimate_training_seconds(runs: tuple[Config, Config | None]) -> float:
    """Estimate the training time of a run; validation and evaluation are not in it.

    Args:
        runs: The run, and that of its teacher where it may not be trained yet: an untrained one stands in for it.
    """
    config, taught_by = runs
    with tempfile.TemporaryDirectory() as folder:
        if taught_by is not None and config.teacher is not None and not _finished(Path(config.teacher.checkpoint)):
            save_model(build_student(taught_by, load_images(taught_by.data, "train")), folder)
            teacher = config.teacher.model_copy(update={"checkpoint": folder})
            config = config.model_copy(update={"teacher": teacher})
        return _seconds(config)


def _finished(checkpoint: Path) -> bool:
    return (checkpoint / WEIGHTS_NAME if checkpoint.is_dir() else checkpoint).exists()


def _seconds(config: Config) -> float:
    changes: dict[str, Any] = {
        "trainer": {**config.trainer, "max_epochs": 1, "limit_train_batches": _STEPS, "limit_val_batches": 0}
    }
    if config.teacher is not None:
        changes["teacher"] = config.teacher.model_copy(update={"cache": "off"})
    run = build(config.model_copy(update=changes))
    steps = len(run.data.train_dataloader()) * config.max_epochs
    clock = _Clock()
    trainer = make_trainer_for_inference(run.config)
    trainer.callbacks.append(clock)  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(run.module, datamodule=run.data)
    return steps * clock.seconds


class _Clock(Callback):
    """Note when each step ends."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.times.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """Give the median time of a step; where there are but a few, of those."""
        gaps = [after - before for before, after in zip(self.times, self.times[1:], strict=False)]
        return statistics.median(gaps[_WARM:] or gaps or [0.0])
