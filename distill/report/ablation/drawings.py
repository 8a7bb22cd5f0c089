"""The plots of an ablation drawn: as PNG by matplotlib, and as the geometry of an SVG for the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.files import replacing
from distill.report.ablation.plots import Plot, Series, dodge

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
import math
from collections.abc import Callable
from dataclasses import dataclass

from distill.report.ablation.plots import (
    Point,
)
from distill.report.common.charts import Tick

#: Told apart by colour-blind people, and dark enough on white; every colour comes with three markers.
COLOURS = ("#2f4b7c", "#b8500f", "#0b7a5e", "#9c3587", "#7a5f00", "#1679a6")
_MARKERS = ("o", "s", "^")
_REFERENCE = "#5b606b"


def series_style(index: int) -> tuple[int, int]:
    """Give the numbers of colour and marker for a series; eighteen series have no two alike.

    Example:
        >>> series_style(0), series_style(1), series_style(6)
        ((0, 0), (1, 1), (0, 1))
    """
    return index % len(COLOURS), (index + index // len(COLOURS)) % len(_MARKERS)


def save_plots(plots: Sequence[Plot], folder: Path | str) -> list[Path]:
    """Draw every plot to a file of its name; a file appears whole or not at all.

    Returns:
        The files.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for plot in plots:
        height = 1.1 + 0.42 * len(plot.places) if plot.kind == "rows" else 4.2
        figure = Figure(figsize=(6.4, height), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        _draw(plot, figure)
        path = folder / f"{plot.name}.png"
        with replacing(path) as part:
            figure.savefig(part, format="png", metadata={"Software": None})
        paths.append(path)
    return paths


def _draw(plot: Plot, figure: Figure) -> None:
    from matplotlib.transforms import ScaledTranslation

    axes = figure.subplots()
    axes.set_title(_safe(plot.title), fontsize=10)
    axes.set_xlabel(_safe(plot.x_label))
    axes.set_ylabel(_safe(plot.y_label))
    axes.grid(axis="x" if plot.kind == "rows" else "both", color="#e3e0d8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for i, series in enumerate(plot.series):
        before = len(axes.lines)
        _draw_series(plot, series, i, axes)
        shift = ScaledTranslation(dodge(plot, i) / 72, 0, figure.dpi_scale_trans)
        for line in axes.lines[before:]:
            line.set_transform(axes.transData + shift)  # only now: the limits are those of the values
    names = [_safe(name) for name in plot.places.values()]
    if plot.kind == "rows":
        axes.set_yticks(list(plot.places), names, fontsize=8)
        axes.set_ylim(len(names) - 0.4, -0.6)
        if plot.reference is not None:
            axes.axvline(plot.reference, color=_REFERENCE, linestyle="--", linewidth=1)
    elif plot.kind == "axis":
        if plot.logarithmic:
            axes.set_xscale("log")
        axes.set_xticks(list(plot.places), names)
        axes.minorticks_off()
    if any(series.name for series in plot.series):
        axes.legend(fontsize=7, frameon=False)


def _draw_series(plot: Plot, series: Series, index: int, axes: Axes) -> None:
    colour, marker = series_style(index)
    shape: dict[str, Any] = {"color": COLOURS[colour], "marker": _MARKERS[marker], "linestyle": "none"}
    flat = plot.kind == "rows"
    for x, y in series.dots:
        alone = not series.means
        axes.plot(x, y + 0.2 * flat, **shape, markersize=5 if alone else 3, alpha=0.8 if alone else 0.45)
    for mean in series.means:
        if mean.low is not None and mean.high is not None:
            ends = ((mean.low, mean.high), (mean.y, mean.y)) if flat else ((mean.x, mean.x), (mean.low, mean.high))
            axes.plot(*ends, color=COLOURS[colour], linewidth=2)
    if series.means:
        line = "none" if flat else "-"
        places = [mean.x for mean in series.means], [mean.y for mean in series.means]
        axes.plot(*places, **{**shape, "linestyle": line}, markersize=6, linewidth=1, label=_safe(series.name))
    elif series.dots:
        axes.plot([], [], **shape, label=_safe(series.name))


def _safe(text: str) -> str:
    return text.replace("$", r"\$")  # matplotlib would read mathematics


WIDTH = 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 16, 14, 40
#: Height of a row of a drawing by row, and of the others.
_ROW, _HEIGHT = 40, 300
#: What is kept free beside the first and the last value of an axis.
_INSET = 24
_Scale = Callable[[float], float]


@dataclass(frozen=True)
class SeriesDrawing:
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
    groups: tuple[SeriesDrawing, ...]


def layout_plot(plot: Plot) -> Drawing:
    """Lay a plot out."""
    flat = plot.kind == "rows"
    height = _TOP + _BOTTOM + _ROW * len(plot.places) if flat else _HEIGHT
    left, right, bottom = (16 if flat else _LEFT), WIDTH - _RIGHT, height - _BOTTOM
    xs, ys = _spans(plot)
    x_values = _ticks(xs) if plot.kind != "axis" else list(plot.places)
    y_values = [] if flat else _ticks(ys)
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
            _draw_group(series, i, _moved(x_scale, dodge(plot, i)), y_scale, flat=flat)
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


def _draw_group(series: Series, index: int, x_scale: _Scale, y_scale: _Scale, *, flat: bool) -> SeriesDrawing:
    colour, shape = series_style(index)
    marks = tuple((x_scale(mean.x), y_scale(mean.y)) for mean in series.means)
    whiskers = []
    for mean, (x, y) in zip(series.means, marks, strict=True):
        if mean.low is not None and mean.high is not None:
            scale = x_scale if flat else y_scale
            low, high = scale(mean.low), scale(mean.high)
            whiskers.append((low, y, high, y) if flat else (x, low, x, high))
    return SeriesDrawing(
        series.name,
        colour,
        shape,
        "" if flat else " ".join(f"{x:.1f},{y:.1f}" for x, y in marks),
        tuple(whiskers),
        marks,
        tuple((x_scale(x), y_scale(y) + (7 if flat else 0)) for x, y in series.dots),
    )


def _ticks(values: list[float]) -> list[float]:
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
