"""Reads the training curves of a run from `metrics.csv`."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

from distill.checksums import hash_file, read_checked
from distill.errors import InputError
from distill.metrics.names import check_range
from distill.untrusted import read_text

NAME, ENVIRONMENT_NAME = "metrics.csv", "environment.json"
#: In ``environment.json`` of a finished run: the checksum of its ``metrics.csv``.
METRICS_HASH = "metrics"
_COUNTERS = ("epoch", "step")


@dataclass(frozen=True)
class Curves:
    """Training curves of one run.

    Args:
        run: Name of the run in the report.
        series: Pairs of epoch and value, in the order of the epochs, by metric.
    """

    run: str
    series: dict[str, list[tuple[int, float]]]


def read_curves(path: Path | str, *, run: str) -> Curves:
    """Read the training curves of a run.

    Convention:
        - A column is a metric; an empty cell means that the metric was not measured in that row.
        - If an epoch has several values, as in a resumed run, the last one is used.
        - Values that are not finite are left out, and so is a last line that is not complete.

    Args:
        path: The file, or the run directory that contains it.
        run: Name of the run in the report.

    Raises:
        InputError: if the file is missing or damaged, has no column ``epoch``, or a cell is not a number or is outside
            the range of its metric.
    """
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the directory of a run that has written {NAME}.")
    _check_hash(path)
    values: dict[str, dict[int, float]] = {}
    text = read_text(path)
    complete = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(complete, newline=""))
    try:
        if "epoch" not in (reader.fieldnames or ()):
            raise InputError(f"{path} has no column 'epoch'; columns: {', '.join(reader.fieldnames or ()) or 'none'}.")
        for row in reader:
            _add(row, values)
    except InputError:
        raise
    except (TypeError, ValueError, OverflowError, csv.Error) as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from error
    return Curves(run, {name: sorted(series.items()) for name, series in values.items()})


def read_best_row(path: Path | str, metric: str, *, highest: bool) -> dict[str, float]:
    """Read the metrics that were logged together with the best value of one metric; the first row if values are equal.

    Args:
        path: The file, or the run directory that contains it.
        metric: The metric.
        highest: Whether the highest value is the best.
    """
    path = Path(path)
    best: dict[str, float] = {}
    with (path / NAME if path.is_dir() else path).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values = {name: float(cell) for name, cell in row.items() if name not in _COUNTERS and cell}
            value = values.get(metric, math.nan)
            better = not best or (value > best[metric] if highest else value < best[metric])
            if math.isfinite(value) and better:
                best = values
    return {name: value for name, value in best.items() if math.isfinite(value)}


def _check_hash(path: Path) -> None:
    """Raise an error if the file of a finished run differs from its checksum in ``environment.json``."""
    environment = path.with_name(ENVIRONMENT_NAME)
    if not environment.exists():
        return
    remedy = "Restore the file, or train the run again with --overwrite."
    expected = read_checked(environment, remedy=remedy).get(METRICS_HASH)
    if expected is not None and expected != hash_file(path):
        raise InputError(f"{path} was changed or damaged after the run was finished. {remedy}")


def _add(row: dict[str, str], values: dict[str, dict[int, float]]) -> None:
    if None in row or None in row.values():
        raise ValueError("the row has too many or too few cells")
    epoch = int(float(row["epoch"]))
    if not 0 <= epoch < 1 << 40:
        raise ValueError(f"the epoch must be 0 or more, got {row['epoch']}")
    for name, cell in row.items():
        if name in _COUNTERS or not cell:
            continue
        value = float(cell)
        check_range(name, value)
        if math.isfinite(value):
            values.setdefault(name, {})[epoch] = value
