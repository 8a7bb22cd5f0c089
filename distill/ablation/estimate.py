"""Estimate the training time of a run from its first steps, without writing to its directory."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from distill.build import build, build_student, load_images, trust_in
from distill.config import Config
from distill.models import save_model
from distill.models.weights import WEIGHTS_NAME
from distill.training import make_trainer_for_inference
from distill.untrusted import Trust

#: Number of steps that are run, and how many of the first ones are not timed.
_STEPS, _WARM_UP = 8, 3


def estimate_training_seconds(runs: tuple[Config, Config | None], *, trust: Trust | bool = False) -> float:
    """Return the estimated training time in seconds, without validation and evaluation.

    Args:
        runs: The run, and the run of its teacher or None. If the teacher is not trained yet, an untrained network takes
            its place.
        trust: Names that the files of a teacher may import, in addition to those in the configuration.
    """
    config, teacher_config = runs
    with tempfile.TemporaryDirectory() as folder:
        if (
            teacher_config is not None
            and config.teacher is not None
            and config.teacher.checkpoint is not None
            and not _is_trained(Path(config.teacher.checkpoint))
        ):
            save_model(
                build_student(
                    teacher_config, load_images(teacher_config.data, "train", trust=trust_in(teacher_config))
                ),
                folder,
            )
            teacher = config.teacher.model_copy(update={"checkpoint": folder})
            config = config.model_copy(update={"teacher": teacher})
        return _training_seconds(config, trust_in(teacher_config, also=trust))


def _is_trained(checkpoint: Path) -> bool:
    return (checkpoint / WEIGHTS_NAME if checkpoint.is_dir() else checkpoint).exists()


def _training_seconds(config: Config, trust: Trust) -> float:
    changes: dict[str, Any] = {
        "trainer": {**config.trainer, "max_epochs": 1, "limit_train_batches": _STEPS, "limit_val_batches": 0},
        "monitor": config.monitor.model_copy(update={"select": "last"}),
    }
    if config.teacher is not None:
        changes["teacher"] = config.teacher.model_copy(update={"cache": "off"})
    run = build(config.model_copy(update=changes), trust=trust)
    steps = len(run.data.train_dataloader()) * config.max_epochs
    timer = _StepTimer()
    trainer = make_trainer_for_inference(run.config)
    trainer.callbacks.append(timer)  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(run.module, datamodule=run.data)
    return steps * timer.median_seconds


class _StepTimer(Callback):
    """Record the time at the end of each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.times.append(time.perf_counter())

    @property
    def median_seconds(self) -> float:
        """Median time of a step after the warm-up; of all steps if there are no others."""
        durations = [after - before for before, after in zip(self.times, self.times[1:], strict=False)]
        return statistics.median(durations[_WARM_UP:] or durations or [0.0])
