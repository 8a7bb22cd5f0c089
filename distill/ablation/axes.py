"""A figure against one axis of the grid: rows that differ in that key alone are one line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from distill.ablation.records import AblationRecord
from distill.ablation.series import Plot, Series, drawn_mean, label, scaled, word
from distill.ablation.summary import Summary, Trials, measure_of, values_by_seed

#: A numeric axis that spans more than this factor is drawn in logarithms.
_WIDE = 8.0


def axis_plot(record: AblationRecord, summary: Summary, trials: Trials, metric: str, key: str) -> Plot | None:
    """Draw a figure against the values of a key.

    Convention:
        - Keys whose values move along together are one axis, which is drawn for the first of them.
        - Numbers stand where they lie, in logarithms if they span a factor of 8; other values, and numbers of such a
          span with a zero among them, stand side by side.

    Args:
        record: For its axes.
        summary: Means and intervals.
        trials: Single seeds.
        metric: The figure.
        key: The axis.

    Returns:
        The drawing; None where no two rows differ in this key alone.
    """
    settings = {row: next((trial["settings"] for trial in own.values()), {}) for row, own in trials.items()}
    together = _together(key, list(record["axes"]), list(settings.values()))
    if together[0] != key:
        return None
    groups: dict[str, list[tuple[Any, str]]] = {}
    for row in summary["rows"]:
        if key in settings[row]:
            others = {name: value for name, value in settings[row].items() if name not in together}
            same = json.dumps(others, sort_keys=True, default=str)
            groups.setdefault(same, []).append((settings[row][key], row))
    lines = [line for line in groups.values() if len({word(value) for value, _ in line}) > 1]
    if not lines:
        return None
    values = _ordered([value for line in lines for value, _ in line])
    wide = _is_wide(values)
    numeric = _numbers(values) and not (wide and min(values) <= 0)
    at = {word(value): float(value) if numeric else float(i) for i, value in enumerate(values)}
    title = f"{measure_of(metric).title} by {key}, {metric.rpartition('/')[0]}"
    series = tuple(_line(summary, trials, metric, line, at, together) for line in lines)
    return Plot(
        "axis",
        f"axis-{key}-{metric}",
        title,
        key,
        label(metric),
        series,
        {at[word(value)]: word(value) for value in values},
        f"{title}. " + "; ".join(_spoken(one, at) for one in series),
        logarithmic=numeric and wide,
    )


def _line(
    summary: Summary,
    trials: Trials,
    metric: str,
    line: Sequence[tuple[Any, str]],
    at: Mapping[str, float],
    keys: Sequence[str],
) -> Series:
    means, dots = [], []
    for value, row in line:
        x, figure = at[word(value)], summary["findings"][metric][row]["figure"]
        if (mean := drawn_mean(metric, figure, at=x, flat=False)) is not None:
            means.append(mean)
        dots += [(x, scaled(metric, found)) for found in values_by_seed(trials[row], metric).values()]
    name = ", ".join(part for part in line[0][1].split(", ") if not any(_says(part, key) for key in keys))
    return Series(name, tuple(sorted(means, key=lambda mean: mean.x)), tuple(dots))


def _says(part: str, key: str) -> bool:
    """Tell whether a part of a row's name is the value of a key, which is named by its last parts."""
    name, mark, _ = part.partition("=")
    return bool(mark) and f".{key}".endswith(f".{name}")


def _together(key: str, axes: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Give the axes that tell rows apart just as this one does, itself among them."""

    def parts(axis: str) -> list[int]:
        values = [word(own.get(axis)) for own in settings]
        return [values.index(value) for value in values]

    return [axis for axis in axes if parts(axis) == parts(key)]


def _spoken(series: Series, at: Mapping[str, float]) -> str:
    places = {x: text for text, x in at.items()}
    points = ", ".join(f"{places[mean.x]}: {mean.y:.4g}" for mean in series.means)
    return f"{series.name}: {points}" if series.name else points


def _ordered(values: Sequence[Any]) -> list[Any]:
    """List values once, numbers in rising order, others as they come."""
    unique = list({word(value): value for value in values}.values())
    return sorted(unique) if _numbers(unique) else unique


def _numbers(values: Sequence[Any]) -> bool:
    return all(type(value) in (int, float) and math.isfinite(value) for value in values)


def _is_wide(values: Sequence[Any]) -> bool:
    """Tell whether numbers span more than can be seen on a plain scale."""
    above = [value for value in values if value > 0] if _numbers(values) else []
    return bool(above) and max(above) / min(above) >= _WIDE
