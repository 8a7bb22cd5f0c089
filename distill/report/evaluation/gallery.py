"""Gallery records (images with the maps of several networks), and a gallery as one PNG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from distill.files import replacing
from distill.report.common.colours import COLOUR_MAP
from distill.report.evaluation.record import Stratum

#: Why an image is shown: its rank by the score that the gallery is ranked by, or chance.
Pick = Literal["best", "median", "worst", "random"]


@dataclass(frozen=True)
class Panel:
    """What one network sees in one image.

    Args:
        network: Its name.
        heat: Its map in the size of the image, from 0 to 1, divided by its own largest value.
        predicted: The class that it chooses first.
        probability: Softmax probability of that class.
        correct: Whether that class is the label.
        explained_probability: Probability of the class that the map explains.
        stratum: How its answer stands to the reference's; None for the reference and without one.
        scores: Of this image, by names of :data:`distill.metrics.names.MEASURES`; None where the image has none.
    """

    network: str
    heat: Float32[np.ndarray, "h w"]
    predicted: str
    probability: float
    correct: bool
    explained_probability: float
    stratum: Stratum | None = None
    scores: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether the map is zero everywhere."""
        return not self.heat.any()

    @property
    def cosine(self) -> float | None:
        """Of its map and the reference's; None for the reference and where there is nothing to compare."""
        return self.scores.get("map_cosine")


@dataclass(frozen=True)
class Picture:
    """One image and what every network sees in it.

    Args:
        index: Position in the test set.
        pixels: Red, green and blue.
        label: Its class.
        explained: The class that all maps explain.
        boxes: (x0, y0, x1, y1) in pixels, half open, an instance each.
        panels: One a network, the reference first.
        picks: Why it is shown.
    """

    index: int
    pixels: UInt8[np.ndarray, "h w 3"]
    label: str
    explained: str
    boxes: tuple[tuple[int, int, int, int], ...]
    panels: tuple[Panel, ...]
    picks: tuple[Pick, ...] = ("random",)


@dataclass(frozen=True)
class Gallery:
    """Pictures of a test set: some by rank, some drawn at random; none chosen by a person.

    Args:
        set_name: Name of the test set.
        seed: Of the draw.
        total: Size of the test set.
        pictures: Each image once.
        ranked_by: The score that best, median and worst go by, in words; None where all were drawn at random.
        reference: Name of the network that the others are compared with.
    """

    set_name: str
    seed: int
    total: int
    pictures: tuple[Picture, ...]
    ranked_by: str | None = None
    reference: str | None = None


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
    with replacing(path) as part:
        figure.savefig(part, format="png")
    return path


def _caption(panel: Panel) -> str:
    mark = "right" if panel.correct else "WRONG"
    return f"{panel.predicted} {panel.probability * 100:.0f}%\n{'no map' if panel.empty else mark}"


def _safe(text: str) -> str:
    return text.replace("$", r"\$")  # matplotlib would read mathematics
