"""When an epoch's parts begin and end inside a run that is fitted as `distill train` fits it."""

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
    """Moments of one epoch, in seconds.

    Convention:
        - ``end`` is where the next epoch begins, or training ends: validation, logging and checkpoints lie before it.
    """

    start: float
    end: float = 0.0
    validation: float = 0.0
    batches: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.end - self.start

    @property
    def training(self) -> float:
        """All of it but the validation."""
        return self.seconds - self.validation

    @property
    def step(self) -> float:
        """From the start of one step to that of the next, loader included; the whole epoch if it has one step."""
        gaps = [b - a for a, b in zip(self.batches, self.batches[1:], strict=False)]
        return statistics.median(gaps) if gaps else self.training


class Clock(Callback):
    """Note the time at every boundary."""

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []
        self._validation = 0.0

    def _close(self) -> None:
        if self.epochs and not self.epochs[-1].end:
            self.epochs[-1].end = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the epoch before, and open one."""
        self._close()
        self.epochs.append(Epoch(time.perf_counter()))

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Note a step."""
        self.epochs[-1].batches.append(time.perf_counter())

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note where the validation begins."""
        self._validation = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add what it took."""
        self.epochs[-1].validation += time.perf_counter() - self._validation

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the last epoch."""
        self._close()


def timed_fit(run: BuiltRun) -> list[Epoch]:
    """Fit a run in its directory, as `distill train` does after building it, and give its epochs.

    The display writes what it writes where no terminal is, into a string.
    """
    clock = Clock()
    run.module.configure_callbacks = lambda: [clock]  # type: ignore[method-assign]
    RunDirectory(run.config.directory).open(run.config, run.identity)
    with contextlib.redirect_stderr(io.StringIO()):
        fit(run.module, run.data, run.config)
    return clock.epochs
