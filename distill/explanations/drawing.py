"""An explained image as one PNG: the image, and the map of each network over it."""

from __future__ import annotations

import io

from distill.explanations.record import ImageExplanation, NetworkView
from distill.report.colours import COLOUR_MAP

#: What a PNG of ours says of its origin.
SOFTWARE = "distill-explain"
#: Inches: the longer side of a panel and the least width of its column, the space around it, the text under it, and
#: what is kept above and below all panels.
_SIDE, _COLUMN, _GAP, _TEXT, _HEAD, _FOOT = 2.4, 1.9, 0.12, 0.5, 0.55, 0.5
_DPI = 150
#: Letters of a line under a panel.
_LONGEST = 36


def draw(explanation: ImageExplanation) -> bytes:
    """Draw image, teacher and student side by side, all maps on the one colour scale of the reports.

    Returns:
        A PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pixels, views = explanation.pixels, explanation.views
    scale = _SIDE / max(pixels.shape[:2])
    column, row = max(pixels.shape[1] * scale, _COLUMN), max(pixels.shape[0] * scale, 0.3)
    columns = 1 + len(views)
    width, height = (column + _GAP) * columns + _GAP, row + _TEXT + _HEAD + _FOOT
    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    axes = [
        figure.add_axes(
            ((_GAP + i * (column + _GAP)) / width, (_FOOT + _TEXT) / height, column / width, row / height),
            anchor="N",
        )
        for i in range(columns)
    ]
    axes[0].imshow(pixels, interpolation="nearest")
    axes[0].set_title("image", fontsize=8, fontweight="bold")
    axes[0].set_xlabel(_safe(_tail(explanation.name)), fontsize=7)
    grey = pixels.mean(2)
    for axis, view in zip(axes[1:], views, strict=True):
        axis.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        shown = axis.imshow(view.heat, cmap=COLOUR_MAP, vmin=0, vmax=1, alpha=0.6, interpolation="nearest")
        axis.set_title(_safe(f"{view.role}, {view.architecture}"), fontsize=8, fontweight="bold")
        axis.set_xlabel(_safe(_caption(explanation, view)), fontsize=7)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    how = f"{explanation.caption}\n{explanation.method} at {explanation.student.layer}"
    figure.text(0.5, 1 - 0.06 / height, _safe(how), fontsize=7, ha="center", va="top")
    place = (0.3, 0.36 / height, 0.4, 0.08 / height)
    bar = figure.colorbar(shown, cax=figure.add_axes(place), orientation="horizontal")
    bar.set_label("share of the map's largest value", fontsize=7)
    bar.ax.tick_params(labelsize=6, length=2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": SOFTWARE})
    return buffer.getvalue()


def _caption(explanation: ImageExplanation, view: NetworkView) -> str:
    number = explanation.explained
    lines = [f"{explanation.classes[number]} {view.probabilities[number]:.0%}"]
    if view.predicted != number:
        lines.append(f"first choice: {explanation.classes[view.predicted]} {view.probabilities[view.predicted]:.0%}")
    if not view.map.any():
        lines.append("no map: it is zero everywhere")
    return "\n".join(line if len(line) <= _LONGEST else line[:_LONGEST] + "..." for line in lines)


def _tail(name: str) -> str:
    return name if len(name) <= _LONGEST else "..." + name[-_LONGEST:]


def _safe(text: str) -> str:
    return text.replace("$", r"\$")  # matplotlib would read mathematics
