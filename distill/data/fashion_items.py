"""The embedded Fashion-MNIST items, and how they are resized and placed with whole numbers only."""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from numpy.typing import NDArray

CLASSES = (
    "t-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
ITEM = 28
_SPLITS = {"train": slice(0, 9_000), "validation": slice(9_000, 10_000), "test": slice(10_000, 12_000)}


@cache
def _asset() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    with (resources.files("distill.data") / "assets" / "fashion_items.npz").open("rb") as file:
        content = np.load(file)
        return content["images"], content["labels"]


def load_items(split: str) -> tuple[UInt8[np.ndarray, "n 28 28"], UInt8[np.ndarray, " n"]]:
    """Read the items of a split: 9,000 for train, 1,000 for validation, 2,000 for test.

    Convention:
        - No item is in two splits. Within a split the classes take turns: item ``i`` is of class ``i % 10``.
        - An item is bright on black, as Fashion-MNIST has it.

    Example:
        >>> load_items("validation")[1][:12]
        array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1], dtype=uint8)
    """
    images, labels = _asset()
    return images[_SPLITS[split]], labels[_SPLITS[split]]


def placement(
    offset: Int64[np.ndarray, " n"], extent: Int64[np.ndarray, " n"], size: int
) -> Float32[np.ndarray, "n size 28"]:
    """Weights that shrink or stretch a row of an item to ``extent`` pixels and put it at ``offset`` of a canvas.

    Convention:
        - ``weights @ row / 28`` is the mean of the row over each canvas pixel, zero outside the item.
        - Weights are whole numbers from 0 to 28: overlaps of pixels, measured in units of 1 / (28 extent). Products
          with grey levels along both axes stay below 2 ** 24, so float32 holds them exactly, summed in any order.

    Args:
        offset: First canvas pixel of the item; it may lie outside.
        extent: Length of the resized item in pixels.
        size: Length of the canvas in pixels.

    Example:
        >>> placement(np.array([1]), np.array([14]), 4)[0].sum(axis=1)
        array([ 0., 28., 28., 28.], dtype=float32)
    """
    pairs, inverse = np.unique(np.stack([offset, extent]), axis=1, return_inverse=True)
    start, length = pairs[:, :, None, None]
    pixel = np.arange(size)[:, None] - start
    source = np.arange(ITEM)
    overlap = np.minimum((pixel + 1) * ITEM, (source + 1) * length) - np.maximum(pixel * ITEM, source * length)
    weights: NDArray[np.float32] = np.maximum(overlap, 0).astype(np.float32)[inverse.ravel()]
    return weights


def place(
    items: UInt8[np.ndarray, "n 28 28"],
    rows: Float32[np.ndarray, "n size 28"],
    columns: Float32[np.ndarray, "n size 28"],
) -> UInt8[np.ndarray, "n size size"]:
    """Draw items on black canvases; grey levels are rounded down."""
    total = rows @ items.astype(np.float32) @ columns.transpose(0, 2, 1)
    return (total.astype(np.int32) // ITEM**2).astype(np.uint8)


def stretch(grid: UInt8[np.ndarray, "n c g g"], size: int) -> UInt8[np.ndarray, "n c size size"]:
    """Stretch a small grid over a canvas, bilinearly in 1/32 of a cell; grey levels are rounded down."""
    position = (2 * np.arange(size) + 1) * (grid.shape[-1] - 1) * 16 // size
    cell, step = position // 32, position % 32
    weights = np.zeros((size, grid.shape[-1]), np.float32)
    weights[np.arange(size), cell] = 32 - step
    weights[np.arange(size), cell + 1] = step
    total = weights @ grid.astype(np.float32) @ weights.T
    return (total.astype(np.int32) >> 10).astype(np.uint8)
