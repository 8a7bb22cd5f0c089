"""Images with the maps of several networks: the records that a gallery is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8


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
        cosine: Of its map and the reference's; None for the reference and where there is nothing to compare.
    """

    network: str
    heat: Float32[np.ndarray, "h w"]
    predicted: str
    probability: float
    correct: bool
    explained_probability: float
    cosine: float | None

    @property
    def empty(self) -> bool:
        """Whether the map is zero everywhere."""
        return not self.heat.any()


@dataclass(frozen=True)
class Picture:
    """One image and what every network sees in it.

    Args:
        index: Position in the test set.
        pixels: Red, green and blue.
        label: Its class.
        explained: The class that all maps explain.
        boxes: (x0, y0, x1, y1) in pixels, half open, an instance each.
        panels: One a network.
    """

    index: int
    pixels: UInt8[np.ndarray, "h w 3"]
    label: str
    explained: str
    boxes: tuple[tuple[int, int, int, int], ...]
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Gallery:
    """Pictures drawn at random from a test set.

    Args:
        set_name: Name of the test set.
        seed: Of the draw.
        total: Size of the test set.
        pictures: In the order drawn.
    """

    set_name: str
    seed: int
    total: int
    pictures: tuple[Picture, ...]
