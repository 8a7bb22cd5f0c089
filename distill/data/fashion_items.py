"""The bundled Fashion-MNIST items, and integer arithmetic to resize and place them."""

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
    """Return images and labels of a split: 9,000 items for train, 1,000 for validation, 2,000 for test.

    Convention:
        - The splits are disjoint. Within a split, item ``i`` has class ``i % 10``.
        - Items are bright on black, as in Fashion-MNIST.

    Example:
        >>> load_items("validation")[1][:12]
        array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1], dtype=uint8)
    """
    images, labels = _asset()
    return images[_SPLITS[split]], labels[_SPLITS[split]]


def placement(
    offset: Int64[np.ndarray, " n"], length: Int64[np.ndarray, " n"], size: int
) -> Float32[np.ndarray, "n size 28"]:
    """Return weights that resize a row of an item to ``length`` pixels and place it at ``offset`` on a canvas.

    Convention:
        - ``weights @ row / 28`` is the mean of the row over each canvas pixel, and zero outside the item.
        - Weights are integers from 0 to 28: overlaps of pixels in units of 1 / (28 length). Products with grey levels
          along both axes are below 2 ** 24, so float32 represents them exactly, in any order of summation.

    Args:
        offset: First canvas pixel of the item; may be outside the canvas.
        length: Length of the resized item in pixels.
        size: Length of the canvas in pixels.

    Example:
        >>> placement(np.array([1]), np.array([14]), 4)[0].sum(axis=1)
        array([ 0., 28., 28., 28.], dtype=float32)
    """
    pairs, inverse = np.unique(np.stack([offset, length]), axis=1, return_inverse=True)
    first, resized = pairs[:, :, None, None]
    pixel = np.arange(size)[:, None] - first
    source = np.arange(ITEM)
    overlap = np.minimum((pixel + 1) * ITEM, (source + 1) * resized) - np.maximum(pixel * ITEM, source * resized)
    weights: NDArray[np.float32] = np.maximum(overlap, 0).astype(np.float32)[inverse.ravel()]
    return weights


def place(
    items: UInt8[np.ndarray, "n 28 28"],
    rows: Float32[np.ndarray, "n size 28"],
    columns: Float32[np.ndarray, "n size 28"],
) -> UInt8[np.ndarray, "n size size"]:
    """Resize and place items on black canvases, with weights from :func:`placement`; grey levels are rounded down."""
    total = rows @ items.astype(np.float32) @ columns.transpose(0, 2, 1)
    return (total.astype(np.int32) // ITEM**2).astype(np.uint8)


def stretch(grid: UInt8[np.ndarray, "n c g g"], size: int) -> UInt8[np.ndarray, "n c size size"]:
    """Resize a small grid to a canvas bilinearly, in steps of 1/32 cell; grey levels are rounded down."""
    position = (2 * np.arange(size) + 1) * (grid.shape[-1] - 1) * 16 // size
    cell, step = position // 32, position % 32
    weights = np.zeros((size, grid.shape[-1]), np.float32)
    weights[np.arange(size), cell] = 32 - step
    weights[np.arange(size), cell + 1] = step
    total = weights @ grid.astype(np.float32) @ weights.T
    return (total.astype(np.int32) >> 10).astype(np.uint8)
