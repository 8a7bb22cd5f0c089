"""Reads the training curves of a run from `metrics.csv`."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from distill.errors import InputError

NAME = "metrics.csv"
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
        - Values that are not finite are left out.

    Args:
        path: The file, or the run directory that contains it.
        run: Name of the run in the report.

    Raises:
        InputError: if the file is missing, has no column ``epoch``, or a cell is not a number.
    """
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the directory of a run that has written {NAME}.")
    values: dict[str, dict[int, float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if "epoch" not in (reader.fieldnames or ()):
            raise InputError(f"{path} has no column 'epoch'; columns: {', '.join(reader.fieldnames or ()) or 'none'}.")
        for row in reader:
            try:
                _add(row, values)
            except (TypeError, ValueError) as error:
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


def _add(row: dict[str, str], values: dict[str, dict[int, float]]) -> None:
    epoch = int(float(row["epoch"]))
    for name, cell in row.items():
        if name in _COUNTERS or not cell:
            continue
        value = float(cell)
        if math.isfinite(value):
            values.setdefault(name, {})[epoch] = value
