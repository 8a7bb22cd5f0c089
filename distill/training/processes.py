"""Distributed runs: a process that dies ends the others, and a run resumes with another number of processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback

from distill.errors import InputError, RunError
from distill.training.stopping import TimeLimitReached

#: Seconds between two looks at the other processes; seconds that a process has to end by itself before it is ended.
PERIOD, GRACE = 0.5, 20.0
#: Environment variable that tells the processes that Lightning starts which process started them.
_STARTER = "DISTILL_STARTED_BY"
_RECORD = "processes"


class ResumeWithOtherProcesses(Callback):
    """Resume a run with another number of processes than it was saved with.

    Convention:
        - The epoch goes on after the images that all processes together had visited, and the learning rate from the
          same part of the schedule. ``data.batch_size`` counts the images of each process, so the number of images per
          step changes, and the result is not that of an uninterrupted run.

    Args:
        notify: Called with a message if the number differs.
    """

    def __init__(self, notify: Callable[[str], None]) -> None:
        self.notify = notify
        self._saved: dict[str, int] | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Record the number of processes and of batches per epoch."""
        checkpoint[_RECORD] = {"count": trainer.world_size, "batches": int(trainer.num_training_batches)}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Convert the position in the epoch, in place, before Lightning and :class:`ExactResume` restore it."""
        loop = checkpoint["loops"]["fit_loop"]
        progress = loop["epoch_loop.batch_progress"]
        saved = checkpoint.get(_RECORD)  # missing in checkpoints of older versions
        self._saved = None
        if saved is None or saved["count"] == trainer.world_size:
            return
        now, before = trainer.world_size, saved["count"]
        self._saved = saved
        for state in loop["state_dict"].get("combined_loader", []):
            state["position"] = state["position"] * before // now
        current = progress["current"]
        # At the end of an epoch, any number that is not below that of the batches means that it is complete.
        extra = 1 if progress["is_last_batch"] else 0
        visited = (current["ready"] + extra) * before // now + 2 * extra
        # Within a step that is not yet completed, "completed" is one less than the others; it stays so.
        progress["current"] = {key: visited - (current["ready"] - value) for key, value in current.items()}
        self.notify(
            f"resumed with {now} {_plural(now)} instead of {before}: data.batch_size counts the images of each "
            "process, so the number of images per step changes"
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the scheduler to the same part of the schedule, after it was restored from the checkpoint."""
        if self._saved is None:
            return
        now, before = int(trainer.num_training_batches), self._saved["batches"]
        for config in trainer.lr_scheduler_configs:
            if config.interval != "step":
                continue
            scheduler: Any = config.scheduler
            made: Any = pl_module.configure_optimizers()
            fresh = made["lr_scheduler"]["scheduler"]
            with warnings.catch_warnings():  # about a scheduler that is stepped before its optimiser
                warnings.simplefilter("ignore")
                for _ in range(round(scheduler.last_epoch * now / before)):
                    fresh.step()
            scheduler.load_state_dict(fresh.state_dict())
            for group, new in zip(scheduler.optimizer.param_groups, fresh.optimizer.param_groups, strict=True):
                group["lr"] = new["lr"]
        self._saved = None


@contextmanager
def watch_processes(trainer: pl.Trainer, last: Path) -> Iterator[None]:
    """End the processes of a distributed run together: if one dies, the others stop with a message.

    Convention:
        - Processes that Lightning starts are watched. Those that torchrun or SLURM start are ended by these; here only
          the error of a lost connection becomes a message.

    Args:
        trainer: The trainer of the run, before its ``fit``.
        last: The last checkpoint, for the message.

    Raises:
        RunError: if another process died or cannot be reached.
    """
    if trainer.world_size == 1:
        yield
        return
    watch = _Watch(trainer, last)
    watch.start()
    try:
        yield
    except (InputError, RunError, TimeLimitReached):
        watch.end_others()
        raise
    except Exception as error:
        lost = watch.wait_for_lost()
        watch.end_others()
        if lost is None and not _is_lost_connection(error):
            raise
        raise RunError(watch.message(lost or "another process of this run ended or cannot be reached")) from error
    except BaseException:
        watch.end_others()
        raise
    finally:
        watch.stop()


class _Watch(threading.Thread):
    """Looks at the processes that Lightning started or, in one of these, at the process that started it."""

    def __init__(self, trainer: pl.Trainer, last: Path) -> None:
        super().__init__(daemon=True, name="watch-processes")
        self.rank, self.last = trainer.global_rank, last
        self.children: list[subprocess.Popen[bytes]] = []
        self._stopped = threading.Event()
        self._starter = int(os.environ.get(_STARTER, "0"))
        launcher: Any = trainer.strategy.launcher
        if self._starter == 0 and hasattr(launcher, "_call_children_scripts"):
            self._take_children(launcher)

    def _take_children(self, launcher: Any) -> None:
        """Take the processes from Lightning, whose own observer kills this process without a message."""
        start = launcher._call_children_scripts

        def start_and_take() -> None:
            os.environ[_STARTER] = str(os.getpid())
            try:
                start()
            finally:
                del os.environ[_STARTER]
                self.children, launcher.procs = list(launcher.procs), []

        launcher._call_children_scripts = start_and_take

    def find_lost(self) -> str | None:
        """Return what happened to a process that died, or None."""
        if self._starter and os.getppid() != self._starter:
            return "the process of rank 0 ended"
        for rank, child in enumerate(self.children, self.rank + 1):
            code = child.poll()
            if code:
                reason = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
                return f"the process of rank {rank} (number {child.pid}) {reason}"
        return None

    def wait_for_lost(self) -> str | None:
        """Return :meth:`find_lost`, after a moment: a lost connection is noticed before the end of its process."""
        end = time.monotonic() + 5
        while (lost := self.find_lost()) is None and time.monotonic() < end and (self.children or self._starter):
            time.sleep(0.1)
        return lost

    def message(self, lost: str) -> str:
        """Return the message for the user."""
        kept = f"the last checkpoint is {self.last}" if self.last.exists() else "no checkpoint was saved before it"
        return (
            f"{lost}, so rank {self.rank} stops as well; {kept}. Run the same command again to resume, also with "
            "another number of processes."
        )

    def end_others(self) -> None:
        """Let the other processes end by themselves for a moment, then kill them."""
        end = time.monotonic() + 5
        for child in self.children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(end - time.monotonic(), 0.1))
        for child in self.children:
            child.kill()

    def run(self) -> None:
        """Look at the processes; if one died and this one hangs in a call to it, end this one."""
        while not self._stopped.wait(PERIOD):
            lost = self.find_lost()
            if lost is not None and not self._stopped.wait(GRACE):
                self._exit(lost)

    def _exit(self, lost: str) -> NoReturn:
        for child in self.children:
            child.kill()
        print(f"distill: {self.message(lost)}", file=sys.stderr, flush=True)
        os._exit(RunError.exit_code)

    def stop(self) -> None:
        """End the watch."""
        self._stopped.set()


def _is_lost_connection(error: BaseException) -> bool:
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _plural(count: int) -> str:
    return "process" if count == 1 else "processes"
