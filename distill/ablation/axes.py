"""A figure against one axis of the grid: rows that differ in that key alone are one line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from distill.ablation.series import Plot, Series, drawn_mean, label, scaled, word
from distill.ablation.summary import Summary, Trials, measure_of, values_by_seed

#: A numeric axis that spans more than this factor is drawn in logarithms.
_WIDE = 8.0


def axis_plot(summary: Summary, trials: Trials, metric: str, key: str) -> Plot | None:
    """Draw a figure against the values of a key.

    Convention:
        - Numbers stand where they lie, in logarithms if they span a factor of 8; other values side by side.

    Returns:
        The drawing; None where no two rows differ in this key alone.
    """
    groups: dict[str, list[tuple[Any, str]]] = {}
    for row in summary["rows"]:
        settings = next((trial["settings"] for trial in trials[row].values()), {})
        if key in settings:
            others = json.dumps({k: v for k, v in settings.items() if k != key}, sort_keys=True, default=str)
            groups.setdefault(others, []).append((settings[key], row))
    lines = [line for line in groups.values() if len({word(value) for value, _ in line}) > 1]
    if not lines:
        return None
    values = _ordered([value for line in lines for value, _ in line])
    numeric = all(type(value) in (int, float) for value in values)
    at = {word(value): float(value) if numeric else float(i) for i, value in enumerate(values)}
    title = f"{measure_of(metric).title} by {key}, {metric.rpartition('/')[0]}"
    series = tuple(_line(summary, trials, metric, line, at, key) for line in lines)
    return Plot(
        "axis",
        f"axis-{key}-{metric}",
        title,
        key,
        label(metric),
        series,
        {at[word(value)]: word(value) for value in values},
        f"{title}. " + "; ".join(_spoken(one, at) for one in series),
        logarithmic=numeric and min(values) > 0 and max(values) / min(values) >= _WIDE,
    )


def _line(
    summary: Summary, trials: Trials, metric: str, line: Sequence[tuple[Any, str]], at: Mapping[str, float], key: str
) -> Series:
    means, dots = [], []
    for value, row in line:
        x, figure = at[word(value)], summary["findings"][metric][row]["figure"]
        if (mean := drawn_mean(metric, figure, at=x, flat=False)) is not None:
            means.append(mean)
        dots += [(x, scaled(metric, found)) for found in values_by_seed(trials[row], metric).values()]
    value, row = line[0]
    name = ", ".join(part for part in row.split(", ") if not _says(part, key, value))
    return Series(name, tuple(sorted(means, key=lambda mean: mean.x)), tuple(dots))


def _says(part: str, key: str, value: Any) -> bool:
    """Tell whether a part of a row's name is the value of a key, by its last parts."""
    name, mark, text = part.partition("=")
    return bool(mark) and text in (word(value), str(value)) and f".{key}".endswith(f".{name}")


def _spoken(series: Series, at: Mapping[str, float]) -> str:
    places = {x: text for text, x in at.items()}
    points = ", ".join(f"{places[mean.x]}: {mean.y:.4g}" for mean in series.means)
    return f"{series.name}: {points}" if series.name else points


def _ordered(values: Sequence[Any]) -> list[Any]:
    """List values once, numbers in rising order, others as they come."""
    unique = list({word(value): value for value in values}.values())
    return sorted(unique) if all(type(value) in (int, float) and math.isfinite(value) for value in unique) else unique
