"""Lightning callbacks: finite-loss guard, checkpoints, exact resume and progress display."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from distill.config import CheckpointSection, MonitorSection
from distill.console import PlainColumn, PlainConsole
from distill.errors import RunError
from distill.training.best_checkpoint import BestCheckpoint, follow_moved_folder
from distill.training.module import DistillationModule
from distill.untrusted import printable


class NotFiniteError(RunError):
    """A loss or a weight is not finite.

    Args:
        message: Which one, at which step, and what to do.
        step: Number of the last step that was made.
    """

    def __init__(self, message: str, *, step: int) -> None:
        super().__init__(message)
        self.step = step


class FiniteLossGuard(Callback):
    """Stop the run if a loss is not finite, and report the term and the step.

    The training step does not wait for the device: it records the first non-finite step of each term in a buffer on
    the device. This callback reads the buffer at log points and before each checkpoint, so that non-finite weights
    never replace finite ones.
    """

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Check the losses at log points."""
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._check_losses(trainer, pl_module)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: Any) -> None:
        """Check the losses and the weights before a checkpoint: a finite loss can have a non-finite gradient."""
        self._check_losses(trainer, pl_module)
        finite = [t.isfinite().all() for t in checkpoint["state_dict"].values()]
        if not torch.stack(finite).all():
            self._stop(trainer, f"weights after step {trainer.global_step - 1} are not finite numbers")

    def _check_losses(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, DistillationModule)
        steps = module.non_finite_terms()
        if steps:  # later non-finite terms are a consequence of the first one
            first = min(steps.values())
            names = " and ".join(repr(name) for name in steps if steps[name] == first)
            self._stop(trainer, f"term {names} at step {first} is not a finite number")

    def _stop(self, trainer: pl.Trainer, problem: str) -> NoReturn:
        folders = [c.dirpath for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.dirpath]
        last = Path(folders[0]) / "last.ckpt" if folders else None
        saved = f"the last good checkpoint is {last}" if last and last.exists() else "no checkpoint was saved before it"
        raise NotFiniteError(
            f"{problem}; {saved}. Lower optimizer.lr or the weight of the term, or set trainer.gradient_clip_val.",
            step=trainer.global_step,
        )


class StepCheckpoint(ModelCheckpoint):
    """Save within an epoch, except after its last step: that checkpoint is saved after the validation."""

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """Save, unless this was the last step of the epoch."""
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, *args, **kwargs)


def checkpoints(folder: Path, monitor: MonitorSection, section: CheckpointSection) -> list[ModelCheckpoint]:
    """Return the callbacks that save the last checkpoint, and the best one by the monitored metric.

    Args:
        folder: Folder of ``last.ckpt`` and ``best.ckpt``; each save replaces the whole file.
        monitor: The monitored metric and its direction.
        section: Whether to save within an epoch as well.
    """
    common: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False, "save_top_k": 1}
    callbacks = [
        BestCheckpoint(filename="best", monitor=monitor.metric, mode=monitor.mode, **common),
        ModelCheckpoint(filename="last", save_on_train_epoch_end=True, **common),
    ]
    if section.every_n_steps is not None:
        callbacks.append(
            StepCheckpoint(
                filename="last", every_n_train_steps=section.every_n_steps, save_on_train_epoch_end=False, **common
            )
        )
    return callbacks


class ExactResume(Callback):
    """Save the random state in every checkpoint; on resuming, restore it and the position of the data loader.

    Lightning creates the data loader before it restores the checkpoint, to count the batches for the schedule, so the
    position is restored here.
    """

    def __init__(self) -> None:
        self._state: dict[str, Any] | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the random state to the checkpoint."""
        checkpoint["random_state"] = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the random state and the loader state until training starts; follow a run that was moved."""
        loop = checkpoint["loops"]["fit_loop"]["state_dict"]
        self._state = {"random": checkpoint["random_state"], "loaders": loop.get("combined_loader", [])}
        states = checkpoint.get("callbacks", {})
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.state_key in states:
                states[callback.state_key] = follow_moved_folder(callback, states[callback.state_key])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the loader state and the random state."""
        if self._state is None:
            return
        loader: Any = trainer.train_dataloader
        for state in self._state["loaders"]:
            loader.load_state_dict(state)
        torch.set_rng_state(self._state["random"]["cpu"])
        for device, state in enumerate(self._state["random"]["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)
        self._state = None


class DataWait(Callback):
    """Measure the share of the training time in which the loop waits for the data loader.

    Convention:
        - The time is that of the host, from the start of an epoch to its last step; the validation is not part of it.
          The device is not read. A device that computes while the host waits hides a part of the wait, so a share
          near 0 means that the data are fast enough.
        - A loader that is not distill's own is not measured.
    """

    def __init__(self) -> None:
        self.total = (0.0, 0.0)
        self.epoch = (0.0, 0.0)
        self._start: tuple[float, float] | None = None

    @property
    def share(self) -> float | None:
        """The share of the run in this process; None if it was not measured."""
        return _share(self.total)

    @property
    def share_of_epoch(self) -> float | None:
        """The share of the current or last epoch."""
        return _share(self.epoch)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        waited = getattr(trainer.train_dataloader, "waited", None)
        self.epoch = (0.0, 0.0)
        self._start = None if waited is None else (waited, time.perf_counter())

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Take the times since the start of the epoch."""
        if self._start is not None:
            waited, start = self._start
            self.epoch = (trainer.train_dataloader.waited - waited, time.perf_counter() - start)  # type: ignore[union-attr]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the times of the epoch to those of the run."""
        self.total = (self.total[0] + self.epoch[0], self.total[1] + self.epoch[1])


def _share(times: tuple[float, float]) -> float | None:
    waited, all_time = times
    return waited / all_time if all_time > 0 else None


class RunProgress(Callback):
    """Show epoch, steps, images per second, time left, the wait for data and the last validation metrics.

    Args:
        name: Name of the run.
        console: Where to print; standard error by default.
        wait: Measures the wait for data.
    """

    def __init__(self, name: str, console: Console | None = None, wait: DataWait | None = None) -> None:
        self.name = name
        self.wait = wait
        self.console = console or PlainConsole(stderr=True)
        self._bar: Progress | None = None
        self._start = (0.0, 0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the progress bar on a terminal."""
        self._start = (time.monotonic(), trainer.global_step)
        if not trainer.is_global_zero or not self.console.is_terminal:
            return
        self._bar = Progress(
            PlainColumn("{task.description}", style="bold"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            PlainColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            PlainColumn("{task.fields[validation]}"),
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
        """Advance the progress bar."""
        if self._bar is not None:
            description = f"{self.name}  epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self._bar.update(
                self._bar.task_ids[0],
                completed=trainer.global_step,
                description=description,
                speed=f"{self._speed(trainer):.0f} img/s{self._wait_text()}",
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the validation metrics: in the bar on a terminal, else as one line per epoch."""
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("validation/")}
        text = "  ".join(f"{k.removeprefix('validation/')} {v:.3f}" for k, v in sorted(metrics.items()))
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], validation=text)
        elif trainer.is_global_zero:
            epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            line = f"{self.name}  {epoch}  {self._speed(trainer):.0f} img/s{self._wait_text()}  {text}"
            self.console.print(printable(line), markup=False, emoji=False, highlight=False, soft_wrap=True)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stop the progress bar, also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _wait_text(self) -> str:
        share = self.wait.share_of_epoch if self.wait else None
        return "" if share is None else f"  waiting for data {share:.0%}"

    def _speed(self, trainer: pl.Trainer) -> float:
        start, first_step = self._start
        batch = getattr(trainer.train_dataloader, "batch_size", 0) or 0
        return (trainer.global_step - first_step) * batch * trainer.world_size / max(time.monotonic() - start, 1e-9)
