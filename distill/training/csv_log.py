"""`MetricsFile`: a Lightning logger that writes metrics.csv, one row per log point, and resumes with the run."""

from __future__ import annotations

import csv
import io
import math
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from distill.errors import InputError
from distill.files import replacing, storage_errors
from distill.untrusted import read_text


class MetricsFile(Logger):
    """Append metrics to a CSV file.

    Convention:
        - The columns are ``epoch``, ``step``, then the metrics in order of first appearance. A cell is empty if the
          metric was not logged in that row.
        - A resumed run appends to the same file. Rows from the checkpoint's step onward are dropped first, because
          the run computes them again.

    Args:
        path: The CSV file.
        first_step: Number of steps that the run has already completed.

    Raises:
        InputError: if the file exists and is damaged.
    """

    def __init__(self, path: Path, *, first_step: int = 0) -> None:
        super().__init__()
        self.path = path
        self._rows: list[dict[str, str]] = []
        if path.exists():
            try:
                rows = csv.DictReader(io.StringIO(read_text(path), newline=""))
                self._rows = [row for row in rows if _step(row) < first_step]
            except (ValueError, TypeError, KeyError, csv.Error) as error:
                raise InputError(
                    f"{path} is damaged, so the run cannot go on with it ({error}). Restore the file, or train from "
                    "the start with --overwrite."
                ) from error
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
        values = {name: value for name, value in metrics.items() if name != "epoch"}
        epoch = metrics.get("epoch")
        row = {"epoch": "" if epoch is None else str(int(epoch)), "step": str(step or 0)}
        row |= {name: repr(float(value)) for name, value in values.items()}
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

    @rank_zero_only
    def _rewrite(self) -> None:
        with replacing(self.path) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self._rows)


def _step(row: dict[str, str]) -> float:
    if None in row:
        raise ValueError("a row has too many cells")
    truncated = None in row.values()  # the last line of a run that was killed while writing
    return math.inf if truncated else int(row["step"])


def _columns(rows: list[dict[str, str]], existing: list[str] | None = None) -> list[str]:
    names = list(existing or ["epoch", "step"])
    return list(dict.fromkeys([*names, *(name for row in rows for name in row)]))
