"""`MetricsFile`: a Lightning logger that writes metrics.csv, one row per log point, and resumes with the run.

Every checkpoint has the rows as well, so that a damaged file is rebuilt.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import math
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from distill.checksums import hash_file
from distill.errors import InputError, warn_input
from distill.files import replacing, storage_errors
from distill.report.common.curves import METRICS_HASH, Curves, read_curves
from distill.training.checkpoint_files import METRICS_RECORD, read_checkpoint
from distill.training.run_directory import RunDirectory
from distill.untrusted import read_text

#: Errors of reading a damaged file.
_DAMAGE = (ValueError, TypeError, KeyError, csv.Error)


class MetricsFile(Logger):
    """Append metrics to a CSV file.

    Convention:
        - The columns are ``epoch``, ``step``, then the metrics in order of first appearance. A cell is empty if the
          metric was not logged in that row.
        - A resumed run appends to the same file. Rows from the checkpoint's step onward are dropped first, because
          the run computes them again.
        - If the file does not begin with the rows of the checkpoint, it is replaced by these rows.

    Args:
        path: The CSV file.
        first_step: Number of steps that the run has already completed.
        record: The rows of the checkpoint that the run resumes from; None for checkpoints of older versions.

    Attributes:
        rebuilt: Whether the file was replaced by the rows of the checkpoint.

    Raises:
        InputError: if the file exists and is damaged, and there is no record.
    """

    def __init__(self, path: Path, *, first_step: int = 0, record: str | None = None) -> None:
        super().__init__()
        self.path = path
        self.rebuilt = False
        self._rows: list[dict[str, str]] = []
        recorded: list[dict[str, str]] | None = None
        with contextlib.suppress(*_DAMAGE):
            recorded = None if record is None else _parse(record, first_step)
        try:
            if first_step and path.exists():
                self._rows = _parse(read_text(path), first_step)
        except _DAMAGE as error:
            if recorded is None:
                raise InputError(
                    f"{path} is damaged, so the run cannot go on with it ({error}). Restore the file, or train from "
                    "the start with --overwrite."
                ) from error
        if recorded is not None and _filled(self._rows[: len(recorded)]) != _filled(recorded):
            self._rows, self.rebuilt = recorded, True
        self._columns = _columns(self._rows)
        self._rewrite()

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "metrics"

    @property
    def version(self) -> str:
        """Version of the logger; empty, since a run has one file."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row, and add columns for new metrics."""
        row = _row(metrics, step)
        self._rows.append(row)
        columns = _columns([row], self._columns)
        if columns != self._columns:
            self._columns = columns
            self._rewrite()
        else:
            with storage_errors(self.path), self.path.open("r+", newline="") as file:  # a removed file is an error
                file.seek(0, os.SEEK_END)
                csv.DictWriter(file, self._columns).writerow(row)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the hyperparameters are in config.yaml."""

    def text(self, metrics: dict[str, Any] | None = None, step: int | None = None) -> str:
        """Return the content of the file, with one more row if there are metrics that are not yet written."""
        rows = [_row(metrics, step)] if metrics else []
        return _text([*self._rows, *rows], _columns(rows, self._columns))

    @rank_zero_only
    def _rewrite(self) -> None:
        with replacing(self.path) as part:
            part.write_bytes(self.text().encode())


class MetricsRecord(Callback):
    """Save the rows of a :class:`MetricsFile` in every checkpoint.

    Args:
        file: The file.
    """

    def __init__(self, file: MetricsFile) -> None:
        self.file = file

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the rows, with that of the epoch that ends: Lightning logs it after the checkpoint."""
        connector: Any = trainer._logger_connector
        row, step = {}, trainer.fit_loop.epoch_loop._batches_that_stepped - 1
        if trainer.training and connector._first_loop_iter is None:  # the end of an epoch was reached
            row = dict(connector.metrics["log"])
        if row:
            step = int(row.pop("step", step))
            row.setdefault("epoch", trainer.current_epoch)
        checkpoint[METRICS_RECORD] = self.file.text(row, step)


def restore_metrics(directory: RunDirectory) -> str:
    """Rebuild ``metrics.csv`` of a finished run from a checkpoint, if it is missing or damaged and that is possible.

    The rows of the checkpoint must fit the checksum of the file in ``environment.json``.

    Returns:
        A message if the file was rebuilt, else an empty string.

    Raises:
        InputError: If ``environment.json`` is damaged.
        StorageError: If the file cannot be written.
    """
    expected = directory.read_environment().get(METRICS_HASH) if directory.environment.exists() else None
    path = directory.metrics
    if expected is None or path.is_dir() or (path.is_file() and hash_file(path) == expected):
        return ""
    for source in directory.checkpoints:
        try:
            record = read_checkpoint(source).get(METRICS_RECORD) if source.exists() else None
        except InputError:
            continue
        if isinstance(record, str) and hashlib.sha256(record.encode()).hexdigest() == expected:
            with replacing(path, suffix=f".{os.getpid()}.part") as part:
                part.write_bytes(record.encode())
            return describe_rebuilt(path, source)
    return ""


def read_run_curves(folder: Path, *, run: str) -> Curves:
    """Read the training curves of a run, whose file is rebuilt first if it is damaged, with a warning.

    Args:
        folder: The run directory.
        run: Name of the run in the report.

    Raises:
        InputError: as :func:`distill.report.read_curves` does.
    """
    if message := restore_metrics(RunDirectory(folder)):
        warn_input(message)
    return read_curves(folder, run=run)


def describe_rebuilt(path: Path, source: Path) -> str:
    """Return a message that a file was rebuilt from a checkpoint."""
    return f"{path} is missing, incomplete or damaged; it is rebuilt from {source.name}."


def _parse(text: str, first_step: float) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if not {"epoch", "step"} <= set(reader.fieldnames or ()):
        raise ValueError("it has no columns 'epoch' and 'step'")
    return [row for row in reader if _step(row) < first_step]


def _row(metrics: dict[str, Any], step: int | None) -> dict[str, str]:
    epoch = metrics.get("epoch")
    row = {"epoch": "" if epoch is None else str(int(epoch)), "step": str(step or 0)}
    return row | {name: repr(float(value)) for name, value in metrics.items() if name != "epoch"}


def _text(rows: list[dict[str, str]], columns: list[str]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _filled(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return rows without their empty cells."""
    return [{name: cell for name, cell in row.items() if cell} for row in rows]


def _step(row: dict[str, str]) -> float:
    if None in row:
        raise ValueError("a row has too many cells")
    truncated = None in row.values()  # the last line of a run that was killed while writing
    return math.inf if truncated else int(row["step"])


def _columns(rows: list[dict[str, str]], existing: list[str] | None = None) -> list[str]:
    names = list(existing or ["epoch", "step"])
    return list(dict.fromkeys([*names, *(name for row in rows for name in row)]))
