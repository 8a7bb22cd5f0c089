"""The plots of an ablation: figures by row, against an axis of the grid, and against each other."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from distill.report.ablation.record import (
    AblationRecord,
    Spread,
    Summary,
    Trials,
    measure_of,
    sort_trials,
    values_by_seed,
)
from distill.report.common.numbers import format_value

Point = tuple[float, float]


@dataclass(frozen=True)
class Mean:
    """A mean at a place, and its interval along the axis of values where more than one seed is behind it."""

    x: float
    y: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Series:
    """What has one colour and one marker: means, and single seeds as dots."""

    name: str
    means: tuple[Mean, ...]
    dots: tuple[Point, ...]


@dataclass(frozen=True)
class Plot:
    """One drawing.

    Args:
        kind: ``rows`` has a row at every y, ``axis`` a value of an axis at every x, ``pairs`` a dot for every trial.
        name: Of its file, without an ending; no two of an ablation have the same.
        title: What is drawn.
        x_label: What lies along x.
        y_label: What lies along y.
        series: At least one.
        places: What stands at which place of the axis that is no figure: rows at y, values at x.
        words: The drawing in words.
        reference: The baseline's mean.
        logarithmic: Whether x is.
    """

    kind: Literal["rows", "axis", "pairs"]
    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    places: Mapping[float, str]
    words: str
    reference: float | None = None
    logarithmic: bool = False


def dodge(plot: Plot, index: int) -> float:
    """Say by how many points a series of a drawing by axis stands beside its place: intervals do not cover each other.

    Example:
        >>> series = tuple(Series(name, (), ()) for name in "ab")
        >>> plot = Plot("axis", "", "", "", "", series, {}, "")
        >>> dodge(plot, 0), dodge(plot, 1)
        (-3.0, 3.0)
    """
    count = len(plot.series)
    return (index - (count - 1) / 2) * min(6, 40 / count) if plot.kind == "axis" else 0.0


def axis_label(metric: str) -> str:
    """Name a figure as the axis of a drawing does.

    Example:
        >>> axis_label("unbiased/accuracy"), axis_label("unbiased/map_cosine")
        ('Accuracy (%)', 'Map cosine')
    """
    measure = measure_of(metric)
    return f"{measure.title} (%)" if measure.style == "percent" else measure.title


def to_display_units(metric: str, value: float) -> float:
    """Give a figure as it is drawn: per cent, or the number itself."""
    return 100 * value if measure_of(metric).style == "percent" else value


def place_mean(metric: str, figure: Spread, *, at: float, flat: bool) -> Mean | None:
    """Place a row's mean and interval at a position of the other axis; None where it was not measured.

    Args:
        metric: The figure.
        figure: Its mean over the seeds.
        at: The position.
        flat: Whether figures lie along x.
    """
    if figure["mean"] is None:
        return None
    value = to_display_units(metric, figure["mean"])
    low, high = (None if end is None else to_display_units(metric, end) for end in (figure["low"], figure["high"]))
    return Mean(value, at, low, high) if flat else Mean(at, value, low, high)


def format_tick(value: Any) -> str:
    """Write a value as it stands in a drawing.

    Example:
        >>> format_tick(True), format_tick(5.0), format_tick("l2")
        ('true', '5', 'l2')
    """
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value).replace('"', "")


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
    lines = [line for line in groups.values() if len({format_tick(value) for value, _ in line}) > 1]
    if not lines:
        return None
    values = _ordered([value for line in lines for value, _ in line])
    wide = _is_wide(values)
    numeric = _numbers(values) and not (wide and min(values) <= 0)
    at = {format_tick(value): float(value) if numeric else float(i) for i, value in enumerate(values)}
    title = f"{measure_of(metric).title} by {key}, {metric.rpartition('/')[0]}"
    series = tuple(_line(summary, trials, metric, line, at, together) for line in lines)
    return Plot(
        "axis",
        f"axis-{key}-{metric}",
        title,
        key,
        axis_label(metric),
        series,
        {at[format_tick(value)]: format_tick(value) for value in values},
        f"{title}. " + "; ".join(_describe(one, at) for one in series),
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
        x, figure = at[format_tick(value)], summary["findings"][metric][row]["figure"]
        if (mean := place_mean(metric, figure, at=x, flat=False)) is not None:
            means.append(mean)
        dots += [(x, to_display_units(metric, found)) for found in values_by_seed(trials[row], metric).values()]
    name = ", ".join(part for part in line[0][1].split(", ") if not any(_names_axis(part, key) for key in keys))
    return Series(name, tuple(sorted(means, key=lambda mean: mean.x)), tuple(dots))


def _names_axis(part: str, key: str) -> bool:
    """Tell whether a part of a row's name is the value of a key, which is named by its last parts."""
    name, mark, _ = part.partition("=")
    return bool(mark) and f".{key}".endswith(f".{name}")


def _together(key: str, axes: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Give the axes that tell rows apart just as this one does, itself among them."""

    def parts(axis: str) -> list[int]:
        values = [format_tick(own.get(axis)) for own in settings]
        return [values.index(value) for value in values]

    return [axis for axis in axes if parts(axis) == parts(key)]


def _describe(series: Series, at: Mapping[str, float]) -> str:
    places = {x: text for text, x in at.items()}
    points = ", ".join(f"{places[mean.x]}: {mean.y:.4g}" for mean in series.means)
    return f"{series.name}: {points}" if series.name else points


def _ordered(values: Sequence[Any]) -> list[Any]:
    """List values once, numbers in rising order, others as they come."""
    unique = list({format_tick(value): value for value in values}.values())
    return sorted(unique) if _numbers(unique) else unique


def _numbers(values: Sequence[Any]) -> bool:
    return all(type(value) in (int, float) and math.isfinite(value) for value in values)


def _is_wide(values: Sequence[Any]) -> bool:
    """Tell whether numbers span more than can be seen on a plain scale."""
    above = [value for value in values if value > 0] if _numbers(values) else []
    return bool(above) and max(above) / min(above) >= _WIDE


#: Figures that accuracy is drawn against.
_AGAINST = ("agreement", "map_cosine")


def make_plots(record: AblationRecord, summary: Summary) -> list[Plot]:
    """Choose what is drawn: every figure by row; accuracy against every axis, agreement and the cosine of the maps.

    Convention:
        - Per cent are drawn as such: 72.5, not 0.725.
        - What was not measured of any row is left out, and so is an axis with a single value.
    """
    trials = sort_trials(record)
    plots = [_rows(summary, trials, metric) for metric in summary["metrics"]]
    by_set: dict[str, list[str]] = {}
    for metric in summary["metrics"]:
        by_set.setdefault(metric.rpartition("/")[0], []).append(metric)
    for where, metrics in by_set.items():
        accuracy = f"{where}/accuracy"
        main = accuracy if accuracy in metrics else metrics[0]
        found = (axis_plot(record, summary, trials, main, key) for key in record["axes"])
        plots += [plot for plot in found if plot is not None]
        if main == accuracy:
            others = [f"{where}/{figure}" for figure in _AGAINST]
            plots += [_pairs(trials, other, accuracy) for other in others if other in metrics]
    return _distinct([plot for plot in plots if any(one.means or one.dots for one in plot.series)])


def _rows(summary: Summary, trials: Trials, metric: str) -> Plot:
    where, style = metric.rpartition("/")[0], measure_of(metric).style
    means, dots, words = [], [], []
    for y, row in enumerate(summary["rows"]):
        figure = summary["findings"][metric][row]["figure"]
        mean = place_mean(metric, figure, at=y, flat=True)
        if mean is not None and figure["mean"] is not None:
            means.append(mean)
            words.append(f"{row} {format_value(figure['mean'], style)}")
        dots += [(to_display_units(metric, value), float(y)) for value in values_by_seed(trials[row], metric).values()]
    baseline = summary["findings"][metric][summary["baseline"]]["figure"]["mean"]
    title = f"{measure_of(metric).title} by row, {where}"
    return Plot(
        "rows",
        f"rows-{metric}",
        title,
        axis_label(metric),
        "",
        (Series("", tuple(means), tuple(dots)),),
        dict(enumerate(summary["rows"])),
        f"{title}. Means: {', '.join(words)}",
        None if baseline is None or summary["within"] else to_display_units(metric, baseline),
    )


def _pairs(trials: Trials, across: str, along: str) -> Plot:
    series = []
    for row, own in trials.items():
        first, second = values_by_seed(own, across), values_by_seed(own, along)
        dots = [
            (to_display_units(across, first[seed]), to_display_units(along, second[seed]))
            for seed in first
            if seed in second
        ]
        series.append(Series(row, (), tuple(dots)))
    x, y, where = measure_of(across).title, measure_of(along).title, along.rpartition("/")[0]
    title = f"{y} against {x.lower()}, {where}"
    count = sum(len(one.dots) for one in series)
    words = f"{title}: a dot for each of {count} trials."
    return Plot(
        "pairs", f"pairs-{along}-{across}", title, axis_label(across), axis_label(along), tuple(series), {}, words
    )


def _distinct(plots: Sequence[Plot]) -> list[Plot]:
    """Give every drawing a file name of its own."""
    taken: list[str] = []
    for plot in plots:
        slug = re.sub(r"[^a-z0-9._]+", "-", plot.name.lower()).strip("-.")
        same = sum(re.fullmatch(rf"{re.escape(slug)}(~\d+)?", name) is not None for name in taken)
        taken.append(f"{slug}~{same + 1}" if same else slug)
    return [replace(plot, name=name) for plot, name in zip(plots, taken, strict=True)]
