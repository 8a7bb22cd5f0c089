"""Chooses the plots of an ablation: figures by row, against an axis of the grid, and against each other."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from distill.report.ablation.record import (
    DIGITS,
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
    """Position of a mean, and its interval along the axis of values if there is more than one seed."""

    x: float
    y: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PlotSeries:
    """Means, and single seeds as dots, that share a colour and a marker."""

    name: str
    means: tuple[Mean, ...]
    dots: tuple[Point, ...]


@dataclass(frozen=True)
class Plot:
    """Content of one plot.

    Args:
        kind: ``rows``: a row at every y; ``axis``: a value of an axis at every x; ``pairs``: a dot for every trial.
        name: Name of the file without its suffix; unique in an ablation.
        title: Title of the plot.
        x_label: Label of the x axis.
        y_label: Label of the y axis.
        series: At least one series.
        labels: Labels of the axis that does not show a figure, by position: rows along y, values along x.
        summary: Description for screen readers.
        reference: Mean of the baseline.
        logarithmic: Whether the x axis is logarithmic.
    """

    kind: Literal["rows", "axis", "pairs"]
    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[PlotSeries, ...]
    labels: Mapping[float, str]
    summary: str
    reference: float | None = None
    logarithmic: bool = False


def dodge(plot: Plot, index: int) -> float:
    """Return the horizontal shift of a series in points, so that intervals at the same value do not overlap.

    Example:
        >>> series = tuple(PlotSeries(name, (), ()) for name in "ab")
        >>> plot = Plot("axis", "", "", "", "", series, {}, "")
        >>> dodge(plot, 0), dodge(plot, 1)
        (-3.0, 3.0)
    """
    count = len(plot.series)
    return (index - (count - 1) / 2) * min(6, 40 / count) if plot.kind == "axis" else 0.0


def axis_label(metric: str) -> str:
    """Return the label of a figure on an axis.

    Example:
        >>> axis_label("unbiased/accuracy"), axis_label("unbiased/map_cosine")
        ('Accuracy (%)', 'Map cosine')
    """
    measure = measure_of(metric)
    return f"{measure.title} (%)" if measure.style == "percent" else measure.title


def to_display_units(metric: str, value: float) -> float:
    """Return a figure in the unit of the plots: per cent, or the number itself."""
    return 100 * value if measure_of(metric).style == "percent" else value


def place_mean(metric: str, figure: Spread, *, at: float, flat: bool) -> Mean | None:
    """Return the position of a row's mean and interval; None if the figure was not measured.

    Args:
        metric: Name of the figure.
        figure: Its mean over the seeds.
        at: Position on the other axis.
        flat: Whether the figure is on the x axis.
    """
    if figure["mean"] is None:
        return None
    value = to_display_units(metric, figure["mean"])
    low, high = (None if end is None else to_display_units(metric, end) for end in (figure["low"], figure["high"]))
    return Mean(value, at, low, high) if flat else Mean(at, value, low, high)


def format_axis_value(value: Any) -> str:
    """Format the value of an axis; unlike in the names of rows, 5.0 is shown as 5.

    Example:
        >>> format_axis_value(True), format_axis_value(5.0), format_axis_value("l2")
        ('true', '5', 'l2')
    """
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value).replace('"', "")


#: A numeric axis is logarithmic if its values span at least this factor.
_WIDE = 8.0


def axis_plot(record: AblationRecord, summary: Summary, trials: Trials, metric: str, key: str) -> Plot | None:
    """Plot a figure against the values of a key.

    Convention:
        - Keys whose values change together are one axis; it is plotted for the first of these keys.
        - Numbers are placed by value, on a logarithmic axis if they span a factor of 8. Other values, and numbers that
          span a factor of 8 and include a number that is not positive, are placed at equal distances.

    Args:
        record: Record of the ablation, for its axes.
        summary: Means and intervals.
        trials: Single seeds.
        metric: Name of the figure.
        key: Name of the axis.

    Returns:
        The plot; None if no two rows differ in this key alone.
    """
    settings = {row: next((trial["settings"] for trial in seeds.values()), {}) for row, seeds in trials.items()}
    aliases = _equivalent_axes(key, list(record["axes"]), list(settings.values()))
    if aliases[0] != key:
        return None
    groups: dict[str, list[tuple[Any, str]]] = {}
    for row in summary["rows"]:
        if key in settings[row]:
            others = {name: value for name, value in settings[row].items() if name not in aliases}
            group = json.dumps(others, sort_keys=True, default=str)
            groups.setdefault(group, []).append((settings[row][key], row))
    lines = [line for line in groups.values() if len({format_axis_value(value) for value, _ in line}) > 1]
    if not lines:
        return None
    values = _ordered([value for line in lines for value, _ in line])
    wide = _is_wide(values)
    numeric = _numbers(values) and not (wide and min(values) <= 0)
    at = {format_axis_value(value): float(value) if numeric else float(i) for i, value in enumerate(values)}
    title = f"{measure_of(metric).title} by {key}, {metric.rpartition('/')[0]}"
    series = tuple(_line(summary, trials, metric, line, at, aliases) for line in lines)
    return Plot(
        "axis",
        f"axis-{key}-{metric}",
        title,
        key,
        axis_label(metric),
        series,
        {at[format_axis_value(value)]: format_axis_value(value) for value in values},
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
) -> PlotSeries:
    means, dots = [], []
    for value, row in line:
        x, figure = at[format_axis_value(value)], summary["findings"][metric][row]["figure"]
        if (mean := place_mean(metric, figure, at=x, flat=False)) is not None:
            means.append(mean)
        dots += [(x, to_display_units(metric, one)) for one in values_by_seed(trials[row], metric).values()]
    name = ", ".join(part for part in line[0][1].split(", ") if not any(_names_axis(part, key) for key in keys))
    return PlotSeries(name, tuple(sorted(means, key=lambda mean: mean.x)), tuple(dots))


def _names_axis(part: str, key: str) -> bool:
    """Return whether a part of a row's name, such as ``weight=5``, is the value of a key ending in that name."""
    name, mark, _ = part.partition("=")
    return bool(mark) and f".{key}".endswith(f".{name}")


def _equivalent_axes(key: str, axes: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the axes, ``key`` included, that partition the rows in the same way as ``key``."""

    def partition(axis: str) -> list[int]:
        values = [format_axis_value(one.get(axis)) for one in settings]
        return [values.index(value) for value in values]

    return [axis for axis in axes if partition(axis) == partition(key)]


def _describe(series: PlotSeries, at: Mapping[str, float]) -> str:
    labels = {x: text for text, x in at.items()}
    points = ", ".join(f"{labels[mean.x]}: {mean.y:.4g}" for mean in series.means)
    return f"{series.name}: {points}" if series.name else points


def _ordered(values: Sequence[Any]) -> list[Any]:
    """Return the distinct values, numbers in rising order, other values in the given order."""
    unique = list({format_axis_value(value): value for value in values}.values())
    return sorted(unique) if _numbers(unique) else unique


def _numbers(values: Sequence[Any]) -> bool:
    return all(type(value) in (int, float) and math.isfinite(value) for value in values)


def _is_wide(values: Sequence[Any]) -> bool:
    """Return whether the positive numbers span a factor of at least ``_WIDE``."""
    positive = [value for value in values if value > 0] if _numbers(values) else []
    return bool(positive) and max(positive) / min(positive) >= _WIDE


#: Figures that accuracy is plotted against.
_AGAINST = ("agreement", "map_cosine")


def make_plots(record: AblationRecord, summary: Summary) -> list[Plot]:
    """Return all plots: every figure by row, and accuracy against every axis, agreement and the map cosine.

    Convention:
        - Percentages are plotted as 72.5, not as 0.725.
        - Figures that were not measured for any row are left out, and so are axes with a single value.
    """
    trials = sort_trials(record)
    plots = [_rows(summary, trials, metric) for metric in summary["metrics"]]
    by_set: dict[str, list[str]] = {}
    for metric in summary["metrics"]:
        by_set.setdefault(metric.rpartition("/")[0], []).append(metric)
    for where, metrics in by_set.items():
        accuracy = f"{where}/accuracy"
        main = accuracy if accuracy in metrics else metrics[0]
        by_axis = (axis_plot(record, summary, trials, main, key) for key in record["axes"])
        plots += [plot for plot in by_axis if plot is not None]
        if main == accuracy:
            others = [f"{where}/{figure}" for figure in _AGAINST]
            plots += [_pairs(trials, other, accuracy) for other in others if other in metrics]
    return _name_uniquely([plot for plot in plots if any(one.means or one.dots for one in plot.series)])


def _rows(summary: Summary, trials: Trials, metric: str) -> Plot:
    where, style = metric.rpartition("/")[0], measure_of(metric).style
    means, dots, texts = [], [], []
    for y, row in enumerate(summary["rows"]):
        figure = summary["findings"][metric][row]["figure"]
        mean = place_mean(metric, figure, at=y, flat=True)
        if mean is not None and figure["mean"] is not None:
            means.append(mean)
            texts.append(f"{row} {format_value(figure['mean'], style, digits=DIGITS)}")
        dots += [(to_display_units(metric, value), float(y)) for value in values_by_seed(trials[row], metric).values()]
    baseline = summary["findings"][metric][summary["baseline"]]["figure"]["mean"]
    title = f"{measure_of(metric).title} by row, {where}"
    return Plot(
        "rows",
        f"rows-{metric}",
        title,
        axis_label(metric),
        "",
        (PlotSeries("", tuple(means), tuple(dots)),),
        dict(enumerate(summary["rows"])),
        f"{title}. Means: {', '.join(texts)}",
        None if baseline is None or summary["within"] else to_display_units(metric, baseline),
    )


def _pairs(trials: Trials, across: str, along: str) -> Plot:
    series = []
    for row, seeds in trials.items():
        first, second = values_by_seed(seeds, across), values_by_seed(seeds, along)
        dots = [
            (to_display_units(across, first[seed]), to_display_units(along, second[seed]))
            for seed in first
            if seed in second
        ]
        series.append(PlotSeries(row, (), tuple(dots)))
    x, y, where = measure_of(across).title, measure_of(along).title, along.rpartition("/")[0]
    title = f"{y} against {x.lower()}, {where}"
    count = sum(len(one.dots) for one in series)
    text = f"{title}: a dot for each of {count} trials."
    return Plot(
        "pairs", f"pairs-{along}-{across}", title, axis_label(across), axis_label(along), tuple(series), {}, text
    )


def _name_uniquely(plots: Sequence[Plot]) -> list[Plot]:
    """Make the names of the plots unique and valid as file names."""
    taken: list[str] = []
    for plot in plots:
        slug = re.sub(r"[^a-z0-9._]+", "-", plot.name.lower()).strip("-.")
        same = sum(re.fullmatch(rf"{re.escape(slug)}(~\d+)?", name) is not None for name in taken)
        taken.append(f"{slug}~{same + 1}" if same else slug)
    return [replace(plot, name=name) for plot, name in zip(plots, taken, strict=True)]
