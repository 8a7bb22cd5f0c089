"""`TensorBoard`: Lightning's logger, which stops logging instead of ending the run if its files cannot be written."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.loggers.logger import DummyLogger

from distill.files import describe_storage_error, find_storage_error


class TensorBoard(TensorBoardLogger):
    """Write event files; on an error of the file system, give a warning and write no more.

    The event files repeat metrics.csv, so that a run is complete without them.
    """

    _failed = False

    @property
    def experiment(self) -> Any:
        """The writer of the event files; after an error, one that does nothing."""
        writer = self._attempt(lambda: super(TensorBoard, self).experiment)
        return DummyLogger().experiment if writer is None else writer

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write metrics."""
        self._attempt(lambda: super(TensorBoard, self).log_metrics(metrics, step))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Write hyperparameters."""
        self._attempt(lambda: super(TensorBoard, self).log_hyperparams(*args, **kwargs))

    def save(self) -> None:
        """Flush the files."""
        self._attempt(lambda: super(TensorBoard, self).save())

    def finalize(self, status: str) -> None:
        """Write what is left, and close the files."""
        self._attempt(lambda: super(TensorBoard, self).finalize(status))

    def _attempt(self, write: Callable[[], Any]) -> Any:
        if self._failed:
            return None
        try:
            return write()
        except Exception as error:
            cause = find_storage_error(error)
            if cause is None:
                raise
            self._failed = True
            text = describe_storage_error(cause, self.root_dir).partition(". ")[0]
            warnings.warn(f"TensorBoard: {text}; the run goes on without these files.", stacklevel=2)
            return None


@contextmanager
def quiet_writer() -> Iterator[None]:
    """Print no traceback if the thread that writes event files ends by an error; the logger reports it."""
    previous = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        written = type(args.thread).__module__.startswith("tensorboard.")
        if not (written and args.exc_value is not None and find_storage_error(args.exc_value)):
            previous(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = previous
