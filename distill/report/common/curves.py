"""`metrics.csv` of a run -> a series for every metric."""

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
    """What one run logged.

    Args:
        run: Name of the run, as the report shows it.
        series: By metric: epochs in rising order with their values.
    """

    run: str
    series: dict[str, list[tuple[int, float]]]


def read_curves(path: Path | str, *, run: str) -> Curves:
    """Read the log of a run.

    Convention:
        - A column is a metric; an empty cell says that it was not measured in that row.
        - Where an epoch has several values, as after a resumed run, the last one counts.
        - Values that are not finite are left out.

    Args:
        path: The file, or the run directory that holds it.
        run: The name that the report shall give it.

    Raises:
        InputError: if there is no such file, it has no column ``epoch``, or a cell is not a number.
    """
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"no {NAME} at {path}: not a run directory, or a run that has not logged yet.")
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


def _add(row: dict[str, str], values: dict[str, dict[int, float]]) -> None:
    epoch = int(float(row["epoch"]))
    for name, cell in row.items():
        if name in _COUNTERS or not cell:
            continue
        value = float(cell)
        if math.isfinite(value):
            values.setdefault(name, {})[epoch] = value
