"""The display of a run: a live bar on a terminal, a line an epoch elsewhere; reads the device once an epoch."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class RunProgress(Callback):
    """Show epoch, steps, images a second, time left and the last validation.

    Args:
        name: Name of the run.
        console: Where to; standard error by default.
    """

    def __init__(self, name: str, console: Console | None = None) -> None:
        self.name = name
        self.console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._since = (0.0, 0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the display."""
        self._since = (time.monotonic(), trainer.global_step)
        if not trainer.is_global_zero or not self.console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[validation]}"),
            console=self.console,
            expand=True,
        )
        self._bar.add_task(
            self.name,
            total=int(trainer.estimated_stepping_batches),
            completed=trainer.global_step,
            speed="",
            validation="",
        )
        self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Move the bar."""
        if self._bar is not None:
            description = f"{self.name}  epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self._bar.update(
                self._bar.task_ids[0],
                completed=trainer.global_step,
                description=description,
                speed=f"{self._speed(trainer):.0f} img/s",
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the validation."""
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("validation/")}
        text = "  ".join(f"{k.removeprefix('validation/')} {v:.3f}" for k, v in sorted(metrics.items()))
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], validation=text)
        elif trainer.is_global_zero:
            epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self.console.print(f"{self.name}  {epoch}  {self._speed(trainer):.0f} img/s  {text}", highlight=False)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the display, however the run ended."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _speed(self, trainer: pl.Trainer) -> float:
        start, first = self._since
        batch = getattr(trainer.train_dataloader, "batch_size", 0) or 0
        return (trainer.global_step - first) * batch * trainer.world_size / max(time.monotonic() - start, 1e-9)
