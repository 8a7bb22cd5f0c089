"""Lightning callbacks of a run: finite-loss guard, graceful stop, checkpoints, exact resume, progress display."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from distill.config import CheckpointSection, MonitorSection
from distill.errors import RunError
from distill.training.module import DistillationModule


class InterruptError(RunError):
    """The user stopped the run; its state is saved."""

    exit_code = 130


class FiniteLossGuard(Callback):
    """Stop a run whose loss is not a number, with the name of the term and the step.

    The step itself never waits for the device: it notes the first bad step of each term there. That is read when
    metrics are logged, and before every checkpoint, so that no bad weights replace good ones.
    """

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Look at log points."""
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._check(trainer, pl_module)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: Any) -> None:
        """Look before anything is written, at the weights as well: a finite loss can have a gradient that is not."""
        self._check(trainer, pl_module)
        state = [t.isfinite().all() for t in checkpoint["state_dict"].values()]
        if not torch.stack(state).all():
            self._stop(trainer, f"weights after step {trainer.global_step - 1} are not finite numbers")

    def _check(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, DistillationModule)
        bad = module.bad_terms()
        if bad:  # what followed from the first bad step is not worth telling
            step = min(bad.values())
            told = " and ".join(repr(name) for name in bad if bad[name] == step)
            self._stop(trainer, f"term {told} at step {step} is not a finite number")

    def _stop(self, trainer: pl.Trainer, what: str) -> NoReturn:
        kept = [c.dirpath for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.dirpath]
        last = Path(kept[0]) / "last.ckpt" if kept else None
        where = f"the last good checkpoint is {last}" if last and last.exists() else "no checkpoint was made before"
        raise RunError(
            f"{what}; {where}. Lower optimizer.lr or the weight of the term, or set trainer.gradient_clip_val."
        )


class GracefulStop(Callback):
    """Finish the step, save and leave on the first Ctrl-C or SIGTERM; leave at once on the second."""

    def __init__(self, last: Path) -> None:
        self.last = last
        self.asked = False
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Save and leave, if asked to; after the last step of an epoch its validation comes first."""
        if self.asked and not trainer.is_last_batch:
            trainer.save_checkpoint(self.last)
            self._leave(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave, if asked to at the end of the last epoch, which was saved as every epoch is."""
        if self.asked:
            self._leave(trainer)

    def _leave(self, trainer: pl.Trainer) -> None:
        raise InterruptError(f"stopped at step {trainer.global_step}; the same command goes on from there.")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Listen no more."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class StepCheckpoint(ModelCheckpoint):
    """Save within an epoch. Its last step is left to the epoch's own checkpoint, which knows of the validation."""

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """Save, unless the epoch is at its end."""
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, *args, **kwargs)


def checkpoints(folder: Path, monitor: MonitorSection, section: CheckpointSection) -> list[ModelCheckpoint]:
    """Keep the last state of a run, and the best one by what is monitored; each is one file, replaced as a whole."""
    common: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False, "save_top_k": 1}
    kept = [
        ModelCheckpoint(
            filename="best", monitor=monitor.metric, mode=monitor.mode, save_on_train_epoch_end=True, **common
        ),
        ModelCheckpoint(filename="last", save_on_train_epoch_end=True, **common),
    ]
    if section.every_n_steps is not None:
        kept.append(
            StepCheckpoint(
                filename="last", every_n_train_steps=section.every_n_steps, save_on_train_epoch_end=False, **common
            )
        )
    return kept


class ExactResume(Callback):
    """Save the random state with every checkpoint; go on with it, and with the batch that was next.

    Lightning made the loader to count its batches for the schedule, before it knew of the checkpoint.
    """

    def __init__(self) -> None:
        self._resumed: dict[str, Any] | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the random state."""
        checkpoint["random_state"] = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep it until training goes on."""
        loop = checkpoint["loops"]["fit_loop"]["state_dict"]
        self._resumed = {"random": checkpoint["random_state"], "loaders": loop.get("combined_loader", [])}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on."""
        if self._resumed is None:
            return
        loader: Any = trainer.train_dataloader
        for state in self._resumed["loaders"]:
            loader.load_state_dict(state)
        torch.set_rng_state(self._resumed["random"]["cpu"])
        for device, state in enumerate(self._resumed["random"]["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)
        self._resumed = None


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
