"""Start and end times of the parts of an epoch, inside a run that is fitted as `distill train` does it."""

from __future__ import annotations

import contextlib
import io
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from distill.build import BuiltRun
from distill.training import RunDirectory, fit


@dataclass
class Epoch:
    """Times of one epoch, in seconds.

    Convention:
        - ``end`` is the start of the next epoch or the end of training, after validation, logging and checkpoints.
    """

    start: float
    end: float = 0.0
    validation: float = 0.0
    batches: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Duration of the epoch."""
        return self.end - self.start

    @property
    def training(self) -> float:
        """Duration without validation."""
        return self.seconds - self.validation

    @property
    def step(self) -> float:
        """Median time between the starts of consecutive steps, loader included; `training` if there is one step."""
        gaps = [b - a for a, b in zip(self.batches, self.batches[1:], strict=False)]
        return statistics.median(gaps) if gaps else self.training


class Clock(Callback):
    """Callback that records the times."""

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []
        self._validation = 0.0

    def _close(self) -> None:
        if self.epochs and not self.epochs[-1].end:
            self.epochs[-1].end = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the previous epoch and start one."""
        self._close()
        self.epochs.append(Epoch(time.perf_counter()))

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Record the start of a step."""
        self.epochs[-1].batches.append(time.perf_counter())

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the start of validation."""
        self._validation = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the duration of validation."""
        self.epochs[-1].validation += time.perf_counter() - self._validation

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the last epoch."""
        self._close()


def timed_fit(run: BuiltRun) -> list[Epoch]:
    """Fit a run in its directory, as `distill train` does after building it, and return its epochs.

    The progress display is written to a string instead of the terminal.
    """
    clock = Clock()
    run.module.configure_callbacks = lambda: [clock]  # type: ignore[method-assign]
    RunDirectory(run.config.directory).open(run.config, run.identity)
    with contextlib.redirect_stderr(io.StringIO()):
        fit(run.module, run.data, run.config)
    return clock.epochs
