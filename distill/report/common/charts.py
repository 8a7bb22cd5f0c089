"""Geometry of charts that the templates draw as SVG: scales, ticks, and line charts of several runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from distill.report.common.curves import Curves

#: Width of every chart, and height of a line chart.
WIDTH, HEIGHT = 520, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 34
#: Number of line styles. A style is a colour, a dash pattern and a marker, so that no two differ by colour alone.
STYLES = 6


@dataclass(frozen=True)
class Tick:
    """A position in the drawing and its label."""

    at: float
    text: str


@dataclass(frozen=True)
class Scale:
    """Maps the values ``low`` to ``high`` linearly, or by their logarithms, to the positions ``start`` to ``end``.

    Example:
        >>> Scale(0, 4, 50, 90)(1), Scale(1, 100, 0, 50, logarithmic=True)(10), Scale(2, 2, 0, 50)(2)
        (60.0, 25.0, 25.0)
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value, rounded to 0.1; the middle if ``low`` equals ``high``."""
        low, high, value = (math.log(x) if self.logarithmic else x for x in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def tick_values(values: Sequence[float], *, count: int, integer: bool = False) -> list[float]:
    """Return at most about ``count`` round numbers that span some values.

    Example:
        >>> tick_values([0.1, 1.9], count=4)
        [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    from matplotlib.ticker import MaxNLocator

    return [float(value) for value in MaxNLocator(count, integer=integer).tick_values(min(values), max(values))]


def make_ticks(values: Sequence[float], scale: Callable[[float], float]) -> tuple[Tick, ...]:
    """Return ticks that are labelled with their values."""
    return tuple(Tick(scale(value), f"{value:g}") for value in values)


@dataclass(frozen=True)
class Series:
    """Input of a line chart: one run's points and style, and whether the points have markers."""

    run: str
    style: int
    points: Sequence[tuple[float, float]]
    marked: bool = True


@dataclass(frozen=True)
class Line:
    """Geometry of one run's line: its style, its points, the points with a marker, and the last value as text."""

    run: str
    style: int
    points: str
    markers: tuple[tuple[float, float], ...]
    last: str


@dataclass(frozen=True)
class Chart:
    """Geometry of a line chart; ``summary`` describes it for screen readers."""

    title: str
    x_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    summary: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    summary: str | None = None,
    x_names: Mapping[float, str] | None = None,
    y_range: tuple[float, float] | None = None,
) -> Chart:
    """Compute the geometry of a line chart.

    Args:
        title: Title of the chart.
        series: The lines; at least one of them has a point.
        x_label: Label of the x axis.
        summary: Description for screen readers; default: the last values.
        x_names: Labels of the x axis by value; default: round numbers.
        y_range: Range that the y axis covers at least.
    """
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points] + list(y_range or ())
    x_values = tick_values(xs, count=6, integer=all(float(x).is_integer() for x in xs))
    y_values = tick_values(ys, count=4)
    x_scale = Scale(min(xs), max(xs), _LEFT, WIDTH - _RIGHT)
    y_scale = Scale(y_values[0], y_values[-1], HEIGHT - _BOTTOM, _TOP)
    lines = tuple(_line(one, [(x_scale(x), y_scale(y)) for x, y in one.points]) for one in series if one.points)
    last = ", ".join(f"{line.run} {line.last}" for line in lines)
    return Chart(
        title,
        x_label,
        tuple(Tick(x_scale(x), text) for x, text in x_names.items())
        if x_names
        else make_ticks([x for x in x_values if min(xs) <= x <= max(xs)], x_scale),
        make_ticks(y_values, y_scale),
        lines,
        summary or f"{title} by {x_label}. Last values: {last}",
    )


def make_charts(runs: Sequence[Curves], styles: Mapping[str, int] | None = None) -> list[Chart]:
    """Make a chart of every metric that any run logged; metrics of the validation come first.

    Args:
        runs: Training curves of the runs.
        styles: Style of every run on the rest of the page; default: numbered by position.
    """
    names = list(dict.fromkeys(name for run in runs for name in run.series))
    order = {"validation": 0, "train": 1}
    names.sort(key=lambda name: (order.get(name.partition("/")[0], 2), name != "validation/accuracy"))
    styles = styles or {run.run: i % STYLES for i, run in enumerate(runs)}
    return [
        line_chart(
            metric_title(name),
            [Series(run.run, styles[run.run], run.series[name]) for run in runs if run.series.get(name)],
            x_label="epoch",
        )
        for name in names
    ]


def metric_title(metric: str) -> str:
    """Return the title of a logged metric.

    Example:
        >>> metric_title("validation/accuracy"), metric_title("train/soft_targets")
        ('Validation: accuracy', 'Training: soft targets')
    """
    group, _, name = metric.rpartition("/")
    prefix = {"train": "Training", "validation": "Validation", "": ""}.get(group, group)
    return (f"{prefix}: {name}" if prefix else name).replace("_", " ")


def _line(series: Series, points: list[tuple[float, float]]) -> Line:
    every = max(1, len(points) // 6)
    return Line(
        series.run,
        series.style,
        polyline(points),
        tuple(points[::-every]) if series.marked else (),
        f"{series.points[-1][1]:.4g}",
    )


def polyline(points: Sequence[tuple[float, float]]) -> str:
    """Return the attribute ``points`` of an SVG polyline."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
