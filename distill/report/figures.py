"""A gallery as one PNG, for a README, a slide or a paper."""

from __future__ import annotations

from pathlib import Path

from distill.report.colours import COLOUR_MAP
from distill.report.pictures import Gallery, Panel

#: Inches: a panel, the space between two, the caption under it, and what is kept above and below all rows.
_SIDE, _GAP, _TEXT, _HEAD, _FOOT = 1.35, 0.12, 0.42, 0.3, 0.55


def save_grid(gallery: Gallery, path: Path | str) -> Path:
    """Draw image and maps of every network, a row an image, all maps on one colour scale.

    Args:
        gallery: What to draw.
        path: The PNG file.

    Returns:
        The path.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    rows, columns = len(gallery.pictures), 1 + len(gallery.pictures[0].panels)
    width, height = (_SIDE + _GAP) * columns + _GAP, (_SIDE + _TEXT) * rows + _HEAD + _FOOT
    figure = Figure(figsize=(width, height), dpi=150)
    FigureCanvasAgg(figure)
    inches = {
        "left": _GAP / width,
        "right": 1 - _GAP / width,
        "top": 1 - _HEAD / height,
        "bottom": (_FOOT + _TEXT) / height,
    }
    axes = figure.subplots(
        rows, columns, squeeze=False, gridspec_kw={**inches, "wspace": _GAP / _SIDE, "hspace": _TEXT / _SIDE}
    )
    for row, picture in zip(axes, gallery.pictures, strict=True):
        grey = picture.pixels.mean(2)
        row[0].imshow(picture.pixels, interpolation="nearest")
        row[0].set_xlabel(_safe(picture.label), fontsize=7)
        for axis, panel in zip(row[1:], picture.panels, strict=True):
            axis.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            shown = axis.imshow(panel.heat, cmap=COLOUR_MAP, vmin=0, vmax=1, alpha=0.6, interpolation="bilinear")
            axis.set_xlabel(_safe(_caption(panel)), fontsize=7)
        for axis in row:
            axis.set(xticks=[], yticks=[])
            for x0, y0, x1, y1 in picture.boxes:
                box = Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor="white", linewidth=1)
                axis.add_patch(box)
    for axis, name in zip(axes[0], ["image", *(panel.network for panel in gallery.pictures[0].panels)], strict=True):
        axis.set_title(_safe(name), fontsize=8, fontweight="bold")
    bar = figure.colorbar(shown, cax=figure.add_axes((0.3, 0.4 / height, 0.4, 0.08 / height)), orientation="horizontal")
    bar.set_label("share of the map's largest value", fontsize=7)
    bar.ax.tick_params(labelsize=6, length=2)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    figure.savefig(part, format="png")
    part.replace(path)
    return path


def _caption(panel: Panel) -> str:
    mark = "right" if panel.correct else "WRONG"
    return f"{panel.predicted} {panel.probability * 100:.0f}%\n{'no map' if panel.empty else mark}"


def _safe(text: str) -> str:
    return text.replace("$", r"\$")  # matplotlib would read mathematics
