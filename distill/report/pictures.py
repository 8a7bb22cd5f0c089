"""Images with the maps of several networks: the records that a gallery is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from distill.report.record import Stratum

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
        scores: Of this image, by names of :data:`distill.measures.MEASURES`; None where the image has none.
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
