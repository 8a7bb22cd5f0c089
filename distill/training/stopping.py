"""Stop a run before its end, or save it on request: signals, and the time limit of the ``trainer`` section."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback, Timer

from distill.errors import RunError

#: Signals that stop a run, and the signal on which it is saved and goes on, where the system has it.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAVE_SIGNAL: signal.Signals | None = getattr(signal, "SIGUSR1", None)


class InterruptError(RunError):
    """The user stopped the run; its state was saved."""

    exit_code = 130


class TimeLimitReached(Exception):  # noqa: N818
    """The time limit was reached before the end of the run; its state was saved."""


class _Requests(NamedTuple):
    """What a signal or the clock requests."""

    stop: bool
    time_is_up: bool
    save: bool


class GracefulStop(Callback):
    """Stop on a signal or after a time limit, with a checkpoint; save a checkpoint on SIGUSR1.

    Convention:
        - On the first Ctrl-C or SIGTERM, the step is finished, a checkpoint is saved, and the run stops. On the second,
          it stops at once.
        - In a distributed run, a signal to one process is enough: after every step the processes agree on what was
          requested, through the CPU, so that all of them save and stop at the same step.
        - On SIGUSR1, a checkpoint is saved after the step, and the run goes on. A handler of SIGUSR1 that was there
          before, such as that of a SLURM job, is left alone.

    Args:
        last: Checkpoint file to write.
        max_time: The time limit, as ``trainer.max_time`` of Lightning: ``"DD:HH:MM:SS"``, a ``timedelta``, or its
            keywords. It is counted from the start of this process's training, not from the start of the run.
    """

    def __init__(self, last: Path, *, max_time: Any = None) -> None:
        self.last = last
        self.stop_requested = False
        self.save_requested = False
        self._limit = Timer(duration=max_time).time_remaining()
        self._end: float | None = None
        self._first_step = 0
        self._group: Any = None

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Handle signals until the end of the block; then the handlers that were there before are restored.

        Lightning replaces handlers too, and restores its own late, so the block surrounds its whole run. In another
        thread than the main one, signals cannot be handled.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [*STOP_SIGNALS, *([] if SAVE_SIGNAL is None else [SAVE_SIGNAL])]
        before = {number: signal.getsignal(number) for number in numbers}
        self._install_handlers()
        try:
            yield
        except SystemExit as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # Lightning ends the process on the second Ctrl-C
                raise KeyboardInterrupt from error
            raise
        finally:
            for number, handler in before.items():
                if handler is not None:
                    signal.signal(number, handler)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, and replace the signal handlers that Lightning has installed."""
        self._first_step = trainer.global_step
        if self._limit is not None:
            self._end = time.monotonic() + self._limit
        if threading.current_thread() is threading.main_thread():
            self._install_handlers()
        if trainer.world_size > 1 and dist.is_available() and dist.is_initialized():
            self._group = dist.new_group(backend="gloo")
        if self._agree(trainer).stop:
            self._stop(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Save, or save and stop, if requested; after the last step of an epoch, validate first."""
        if trainer.is_last_batch:
            self.save_requested = False  # the checkpoint of the epoch follows
            return
        requests = self._agree(trainer)
        if any(requests):
            self.save_requested = False
            trainer.save_checkpoint(self.last)
        if requests.stop or requests.time_is_up:
            self._stop(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop if requested in the last step of the previous epoch, whose checkpoint is already saved."""
        requests = self._agree(trainer)
        if requests.stop or (trainer.global_step > self._first_step and requests.time_is_up):
            self._stop(trainer)

    def _stop(self, trainer: pl.Trainer) -> None:
        if self.stop_requested:
            raise InterruptError(f"stopped at step {trainer.global_step}; run the same command again to resume.")
        raise TimeLimitReached(
            f"not finished: trainer.max_time ended the run at step {trainer.global_step} of "
            f"{int(trainer.estimated_stepping_batches)}; run the same command again to go on."
        )

    def _agree(self, trainer: pl.Trainer) -> _Requests:
        """Return what was requested of any process."""
        time_is_up = self._end is not None and time.monotonic() >= self._end
        requests = _Requests(self.stop_requested, time_is_up, self.save_requested)
        if self._group is not None:
            flags = torch.tensor(requests, dtype=torch.int32)
            dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=self._group)
            requests = _Requests(*map(bool, flags.tolist()))
        self.stop_requested = requests.stop
        return requests

    def _install_handlers(self) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, self._request_stop)
        if SAVE_SIGNAL is not None and signal.getsignal(SAVE_SIGNAL) == signal.SIG_DFL:
            signal.signal(SAVE_SIGNAL, self._request_save)

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        if self.stop_requested:
            raise KeyboardInterrupt
        self.stop_requested = True

    def _request_save(self, number: int, frame: FrameType | None) -> None:
        self.save_requested = True
