"""The drawings of an ablation as PNG, for a paper or a slide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.ablation.series import Plot, Series, aside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Told apart by colour-blind people, and dark enough on white; every colour comes with three markers.
COLOURS = ("#2f4b7c", "#b8500f", "#0b7a5e", "#9c3587", "#7a5f00", "#1679a6")
_MARKERS = ("o", "s", "^")
_REFERENCE = "#5b606b"


def look(index: int) -> tuple[int, int]:
    """Give the numbers of colour and marker for a series; eighteen series have no two alike.

    Example:
        >>> look(0), look(1), look(6)
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
        part = path.with_name(path.name + ".part")
        figure.savefig(part, format="png", metadata={"Software": None})
        part.replace(path)
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
        shift = ScaledTranslation(aside(plot, i) / 72, 0, figure.dpi_scale_trans)
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
    colour, marker = look(index)
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
