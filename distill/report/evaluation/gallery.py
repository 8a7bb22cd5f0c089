"""Gallery records (images with the maps of several networks), and a gallery as one PNG file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from distill.files import replacing
from distill.report.common.png import add_colour_bar, escape_mathtext, make_figure, show_map
from distill.report.evaluation.record import Stratum

#: Why an image is shown: its rank by a score, or a random draw.
Pick = Literal["best", "median", "worst", "random"]


@dataclass(frozen=True)
class Panel:
    """Map and prediction of one network for one image.

    Args:
        network: Name of the network.
        heat: The map in the size of the image, divided by its largest value, so from 0 to 1.
        predicted: The class with the largest probability.
        probability: Softmax probability of that class.
        correct: Whether that class is the label.
        explained_probability: Probability of the class that the map explains.
        stratum: Stratum of the image; None for the reference and without a reference.
        scores: Scores of the image, by names of :data:`distill.metrics.names.METRIC_INFO`; None if it has no score.
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
        """Cosine of the map and the reference's map; None for the reference and if it was not measured."""
        return self.scores.get("map_cosine")


@dataclass(frozen=True)
class Picture:
    """One image with the maps of every network.

    Args:
        index: Position in the test set.
        pixels: Red, green and blue, from 0 to 255.
        label: Name of its class.
        explained: Name of the class that all maps explain.
        boxes: (x0, y0, x1, y1) in pixels, half open, one for each object.
        panels: One for each network, the reference first.
        picks: Why the image is shown.
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
    """Pictures of a test set that were chosen by rank and at random.

    Args:
        set_name: Name of the test set.
        seed: Seed of the draw.
        total: Size of the test set.
        pictures: Each image once.
        ranked_by: Description of the score that best, median and worst are chosen by; None if all were drawn at random.
        reference: Name of the network that the others are compared with.
    """

    set_name: str
    seed: int
    total: int
    pictures: tuple[Picture, ...]
    ranked_by: str | None = None
    reference: str | None = None


#: In inches: side of a panel, gap between panels, caption under a panel, and margins above and below all rows.
_SIDE, _GAP, _TEXT, _HEAD, _FOOT = 1.35, 0.12, 0.42, 0.3, 0.55


def save_grid(gallery: Gallery, path: Path | str) -> Path:
    """Draw a gallery: one row per image with the maps of every network, all on one colour scale.

    Args:
        gallery: The gallery.
        path: The PNG file.

    Returns:
        The path.
    """
    from matplotlib.patches import Rectangle

    rows, columns = len(gallery.pictures), 1 + len(gallery.pictures[0].panels)
    width, height = (_SIDE + _GAP) * columns + _GAP, (_SIDE + _TEXT) * rows + _HEAD + _FOOT
    figure = make_figure(width, height)
    margins = {
        "left": _GAP / width,
        "right": 1 - _GAP / width,
        "top": 1 - _HEAD / height,
        "bottom": (_FOOT + _TEXT) / height,
    }
    axes = figure.subplots(
        rows, columns, squeeze=False, gridspec_kw={**margins, "wspace": _GAP / _SIDE, "hspace": _TEXT / _SIDE}
    )
    for row, picture in zip(axes, gallery.pictures, strict=True):
        row[0].imshow(picture.pixels, interpolation="nearest")
        row[0].set_xlabel(escape_mathtext(picture.label), fontsize=7)
        for axis, panel in zip(row[1:], picture.panels, strict=True):
            image = show_map(axis, picture.pixels, panel.heat, interpolation="bilinear")
            axis.set_xlabel(escape_mathtext(_caption(panel)), fontsize=7)
        for axis in row:
            axis.set(xticks=[], yticks=[])
            for x0, y0, x1, y1 in picture.boxes:
                box = Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor="white", linewidth=1)
                axis.add_patch(box)
    for axis, name in zip(axes[0], ["image", *(panel.network for panel in gallery.pictures[0].panels)], strict=True):
        axis.set_title(escape_mathtext(name), fontsize=8, fontweight="bold")
    add_colour_bar(figure, image, bottom=0.4)
    path = Path(path)
    with replacing(path) as part:
        figure.savefig(part, format="png")
    return path


def _caption(panel: Panel) -> str:
    mark = "right" if panel.correct else "WRONG"
    return f"{panel.predicted} {panel.probability * 100:.0f}%\n{'no map' if panel.empty else mark}"
