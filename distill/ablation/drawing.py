"""The drawings of an ablation as geometry, which the page's template draws as SVG in the colours of its theme."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from distill.ablation.pictures import look
from distill.ablation.series import Plot, Point, Series, aside
from distill.report.charts import Tick

WIDTH = 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 16, 14, 40
#: Height of a row of a drawing by row, and of the others.
_ROW, _HEIGHT = 40, 300
#: What is kept free beside the first and the last value of an axis.
_INSET = 24
_Scale = Callable[[float], float]


@dataclass(frozen=True)
class Group:
    """One series: numbers of its colour and marker, a line through its means, their intervals, and single seeds."""

    name: str
    colour: int
    shape: int
    path: str
    whiskers: tuple[tuple[float, float, float, float], ...]
    marks: tuple[Point, ...]
    dots: tuple[Point, ...]


@dataclass(frozen=True)
class Drawing:
    """One drawing; ``labels`` are names that stand above their row, and ``reference`` is where the baseline lies."""

    title: str
    words: str
    x_label: str
    y_label: str
    width: int
    height: int
    left: int
    top: int
    right: int
    bottom: int
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    labels: tuple[Tick, ...]
    reference: float | None
    groups: tuple[Group, ...]


def draw(plot: Plot) -> Drawing:
    """Lay a plot out."""
    flat = plot.kind == "rows"
    height = _TOP + _BOTTOM + _ROW * len(plot.places) if flat else _HEIGHT
    left, right, bottom = (16 if flat else _LEFT), WIDTH - _RIGHT, height - _BOTTOM
    xs, ys = _spans(plot)
    x_values = _round(xs) if plot.kind != "axis" else list(plot.places)
    y_values = [] if flat else _round(ys)
    inset = _INSET if plot.kind == "axis" else 0
    x_scale = _scale(x_values, left + inset, right - inset, logarithmic=plot.logarithmic)
    y_scale: _Scale = (lambda y: _TOP + _ROW * (y + 0.62)) if flat else _scale(y_values, bottom, _TOP)
    names = dict(plot.places) if plot.kind == "axis" else {x: f"{x:.6g}" for x in x_values}
    return Drawing(
        plot.title,
        plot.words,
        plot.x_label,
        plot.y_label,
        WIDTH,
        height,
        left,
        _TOP,
        right,
        bottom,
        tuple(Tick(x_scale(x), text) for x, text in names.items()),
        tuple(Tick(y_scale(y), f"{y:.6g}") for y in y_values),
        tuple(Tick(y_scale(y) - 12, text) for y, text in plot.places.items()) if flat else (),
        None if plot.reference is None else x_scale(plot.reference),
        tuple(
            _group(series, i, _moved(x_scale, aside(plot, i)), y_scale, flat=flat)
            for i, series in enumerate(plot.series)
        ),
    )


def _moved(scale: _Scale, by: float) -> _Scale:
    return lambda value: scale(value) + by


def _spans(plot: Plot) -> tuple[list[float], list[float]]:
    """Collect all that must fit in, along x and along y."""
    xs = [x for series in plot.series for x, _ in series.dots]
    ys = [y for series in plot.series for _, y in series.dots]
    for mean in (mean for series in plot.series for mean in series.means):
        xs.append(mean.x)
        ys.append(mean.y)
        ends = [end for end in (mean.low, mean.high) if end is not None]
        (xs if plot.kind == "rows" else ys).extend(ends)
    return xs + ([] if plot.reference is None else [plot.reference]), ys


def _group(series: Series, index: int, x_scale: _Scale, y_scale: _Scale, *, flat: bool) -> Group:
    colour, shape = look(index)
    marks = tuple((x_scale(mean.x), y_scale(mean.y)) for mean in series.means)
    whiskers = []
    for mean, (x, y) in zip(series.means, marks, strict=True):
        if mean.low is not None and mean.high is not None:
            scale = x_scale if flat else y_scale
            low, high = scale(mean.low), scale(mean.high)
            whiskers.append((low, y, high, y) if flat else (x, low, x, high))
    return Group(
        series.name,
        colour,
        shape,
        "" if flat else " ".join(f"{x:.1f},{y:.1f}" for x, y in marks),
        tuple(whiskers),
        marks,
        tuple((x_scale(x), y_scale(y) + (7 if flat else 0)) for x, y in series.dots),
    )


def _round(values: list[float]) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    return [float(value) for value in MaxNLocator(5).tick_values(min(values), max(values))]


def _scale(values: list[float], start: float, end: float, *, logarithmic: bool = False) -> _Scale:
    """Map values to the drawing; those given fill it."""
    turn: _Scale = math.log if logarithmic else float
    low, high = turn(min(values)), turn(max(values))

    def scale(value: float) -> float:
        share = (turn(value) - low) / (high - low) if high > low else 0.5
        return round(start + share * (end - start), 1)

    return scale
