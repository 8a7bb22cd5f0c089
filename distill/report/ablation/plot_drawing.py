"""Renders the plots of an ablation: as PNG files with matplotlib, and as geometry that the template draws as SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.files import replacing
from distill.report.ablation.plots import Plot, PlotSeries, Point, dodge
from distill.report.common.charts import WIDTH, Scale, Tick, make_ticks, polyline, tick_values
from distill.report.common.png import escape_mathtext, make_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Safe for colour-blind readers and dark enough on white; every colour is combined with each of the three markers.
COLOURS = ("#2f4b7c", "#b8500f", "#0b7a5e", "#9c3587", "#7a5f00", "#1679a6")
_MARKERS = ("o", "s", "^")
_REFERENCE = "#5b606b"


def series_style(index: int) -> tuple[int, int]:
    """Return the numbers of the colour and the marker of a series; they are unique for the first eighteen series.

    Example:
        >>> series_style(0), series_style(1), series_style(6)
        ((0, 0), (1, 1), (0, 1))
    """
    return index % len(COLOURS), (index + index // len(COLOURS)) % len(_MARKERS)


def save_plots(plots: Sequence[Plot], folder: Path | str) -> list[Path]:
    """Draw every plot to a PNG file that has its name; files are written atomically.

    Returns:
        The files.
    """
    folder = Path(folder)
    paths = []
    for plot in plots:
        height = 1.1 + 0.42 * len(plot.labels) if plot.kind == "rows" else 4.2
        figure = make_figure(6.4, height, constrained=True)
        _draw(plot, figure)
        path = folder / f"{plot.name}.png"
        with replacing(path) as part:
            figure.savefig(part, format="png", metadata={"Software": None})
        paths.append(path)
    return paths


def _draw(plot: Plot, figure: Figure) -> None:
    from matplotlib.transforms import ScaledTranslation

    axes = figure.subplots()
    axes.set_title(escape_mathtext(plot.title), fontsize=10)
    axes.set_xlabel(escape_mathtext(plot.x_label))
    axes.set_ylabel(escape_mathtext(plot.y_label))
    axes.grid(axis="x" if plot.kind == "rows" else "both", color="#e3e0d8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for i, series in enumerate(plot.series):
        before = len(axes.lines)
        _draw_series(plot, series, i, axes)
        shift = ScaledTranslation(dodge(plot, i) / 72, 0, figure.dpi_scale_trans)
        for line in axes.lines[before:]:
            line.set_transform(axes.transData + shift)  # after plotting, so that the axis limits fit the values
    labels = [escape_mathtext(label) for label in plot.labels.values()]
    if plot.kind == "rows":
        axes.set_yticks(list(plot.labels), labels, fontsize=8)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        if plot.reference is not None:
            axes.axvline(plot.reference, color=_REFERENCE, linestyle="--", linewidth=1)
    elif plot.kind == "axis":
        if plot.logarithmic:
            axes.set_xscale("log")
        axes.set_xticks(list(plot.labels), labels)
        axes.minorticks_off()
    if any(series.name for series in plot.series):
        axes.legend(fontsize=7, frameon=False)


def _draw_series(plot: Plot, series: PlotSeries, index: int, axes: Axes) -> None:
    colour, marker = series_style(index)
    style: dict[str, Any] = {"color": COLOURS[colour], "marker": _MARKERS[marker], "linestyle": "none"}
    flat = plot.kind == "rows"
    name = escape_mathtext(series.name)
    for x, y in series.dots:
        without_means = not series.means
        axes.plot(
            x, y + 0.2 * flat, **style, markersize=5 if without_means else 3, alpha=0.8 if without_means else 0.45
        )
    for mean in series.means:
        if mean.low is not None and mean.high is not None:
            ends = ((mean.low, mean.high), (mean.y, mean.y)) if flat else ((mean.x, mean.x), (mean.low, mean.high))
            axes.plot(*ends, color=COLOURS[colour], linewidth=2)
    if series.means:
        line = "none" if flat else "-"
        points = [mean.x for mean in series.means], [mean.y for mean in series.means]
        axes.plot(*points, **{**style, "linestyle": line}, markersize=6, linewidth=1, label=name)
    elif series.dots:
        axes.plot([], [], **style, label=name)


_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 16, 14, 40
#: Height of one row of a plot by row, and height of the other plots.
_ROW, _HEIGHT = 40, 300
#: Margin beside the first and the last value of an axis.
_INSET = 24


@dataclass(frozen=True)
class SeriesLayout:
    """Geometry of one series: numbers of colour and marker, the line through its means, intervals, means and seeds."""

    name: str
    colour: int
    shape: int
    path: str
    whiskers: tuple[tuple[float, float, float, float], ...]
    marks: tuple[Point, ...]
    dots: tuple[Point, ...]


@dataclass(frozen=True)
class PlotLayout:
    """Geometry of one plot; ``labels`` are names above their row, ``reference`` is the position of the baseline."""

    title: str
    summary: str
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
    series: tuple[SeriesLayout, ...]


def layout_plot(plot: Plot) -> PlotLayout:
    """Compute the geometry of a plot."""
    flat, by_axis = plot.kind == "rows", plot.kind == "axis"
    height = _TOP + _BOTTOM + _ROW * len(plot.labels) if flat else _HEIGHT
    left, right, bottom = (16 if flat else _LEFT), WIDTH - _RIGHT, height - _BOTTOM
    xs, ys = _values(plot)
    x_values = list(plot.labels) if by_axis else tick_values(xs, count=5)
    y_values = [] if flat else tick_values(ys, count=5)
    inset = _INSET if by_axis else 0
    x_scale = Scale(min(x_values), max(x_values), left + inset, right - inset, logarithmic=plot.logarithmic)
    y_scale: Callable[[float], float] = (
        (lambda y: _TOP + _ROW * (y + 0.62)) if flat else Scale(y_values[0], y_values[-1], bottom, _TOP)
    )
    return PlotLayout(
        plot.title,
        plot.summary,
        plot.x_label,
        plot.y_label,
        WIDTH,
        height,
        left,
        _TOP,
        right,
        bottom,
        tuple(Tick(x_scale(x), text) for x, text in plot.labels.items()) if by_axis else make_ticks(x_values, x_scale),
        make_ticks(y_values, y_scale),
        tuple(Tick(y_scale(y) - 12, text) for y, text in plot.labels.items()) if flat else (),
        None if plot.reference is None else x_scale(plot.reference),
        tuple(_layout_series(plot, i, x_scale, y_scale) for i in range(len(plot.series))),
    )


def _values(plot: Plot) -> tuple[list[float], list[float]]:
    """Return all values that the plot must contain, along x and along y."""
    xs = [x for series in plot.series for x, _ in series.dots]
    ys = [y for series in plot.series for _, y in series.dots]
    for mean in (mean for series in plot.series for mean in series.means):
        xs.append(mean.x)
        ys.append(mean.y)
        ends = [end for end in (mean.low, mean.high) if end is not None]
        (xs if plot.kind == "rows" else ys).extend(ends)
    return xs + ([] if plot.reference is None else [plot.reference]), ys


def _layout_series(plot: Plot, index: int, x_scale: Scale, y_scale: Callable[[float], float]) -> SeriesLayout:
    series, flat, shift = plot.series[index], plot.kind == "rows", dodge(plot, index)
    colour, shape = series_style(index)
    marks = tuple((x_scale(mean.x) + shift, y_scale(mean.y)) for mean in series.means)
    whiskers = []
    for mean, (x, y) in zip(series.means, marks, strict=True):
        if mean.low is not None and mean.high is not None:
            if flat:
                whiskers.append((x_scale(mean.low) + shift, y, x_scale(mean.high) + shift, y))
            else:
                whiskers.append((x, y_scale(mean.low), x, y_scale(mean.high)))
    return SeriesLayout(
        series.name,
        colour,
        shape,
        "" if flat else polyline(marks),
        tuple(whiskers),
        marks,
        tuple((x_scale(x) + shift, y_scale(y) + (7 if flat else 0)) for x, y in series.dots),
    )
