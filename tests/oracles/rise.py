"""RISE, one site at a time, from Petsiuk et al., BMVC 2018, section 3.2."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def enlarge(grid: Array, height: int, width: int) -> Array:
    """Bilinear, the centres of the corner cells half a cell away from the border."""
    rows, columns = grid.shape
    out = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * rows / height - 0.5, 0.0), rows - 1.0)
            x = min(max((j + 0.5) * columns / width - 0.5, 0.0), columns - 1.0)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            dy, dx = y - top, x - left
            out[i, j] = (1 - dy) * ((1 - dx) * grid[top, left] + dx * grid[top, right]) + dy * (
                (1 - dx) * grid[bottom, left] + dx * grid[bottom, right]
            )
    return out


def mask(grid: Array, shift: tuple[int, int], height: int, width: int) -> Array:
    """Enlarge by one cell more than the image, and cut out from the shift on."""
    cells = grid.shape[0]
    tall, wide = math.ceil(height / cells), math.ceil(width / cells)
    large = enlarge(grid, (cells + 1) * tall, (cells + 1) * wide)
    return large[shift[0] : shift[0] + height, shift[1] : shift[1] + width]


def rise(probability: Callable[[Array], float], image: Array, masks: Array, keep: float) -> Array:
    """The mean of the masks, weighted by the probability of the masked image, over the mean of a mask."""
    out = np.zeros(image.shape[1:])
    for one in masks:
        masked = np.zeros_like(image)
        for c in range(image.shape[0]):
            for i in range(image.shape[1]):
                for j in range(image.shape[2]):
                    masked[c, i, j] = image[c, i, j] * one[i, j]
        out += probability(masked) * one
    return out / (keep * len(masks))
