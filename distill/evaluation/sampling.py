"""What is drawn by a seed: images, their order, and of which other image a map is compared with."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

#: Most images whose raw maps are held at a time.
BLOCK = 1024


def permutation(total: int, *, seed: int, stream: int = 0) -> Int64[np.ndarray, " n"]:
    """Give the positions 0 to total - 1 in an order that the seed decides, the same everywhere."""
    words = np.random.Philox(key=[seed % 2**64, stream]).random_raw(total)
    return np.argsort(words, kind="stable").astype(np.int64)


def sample(total: int, count: int, *, seed: int) -> list[int]:
    """Draw positions without looking at what is there.

    Convention:
        - The same seed gives the same positions everywhere; a larger ``count`` continues a smaller one.

    Args:
        total: Number of images.
        count: How many to draw; all of them if there are fewer.
        seed: Of the draw.

    Example:
        >>> sample(1000, 3, seed=0) == sample(1000, 8, seed=0)[:3]
        True
    """
    return [int(i) for i in permutation(total, seed=seed)[:count]]


def other_images(total: int, *, seed: int, stream: int = 0) -> Int64[np.ndarray, " n"]:
    """Give every position another one, each once; one position alone has itself.

    Example:
        >>> found = other_images(5, seed=0)
        >>> sorted(found.tolist()), bool((found == np.arange(5)).any())
        ([0, 1, 2, 3, 4], False)
    """
    order = permutation(total, seed=seed, stream=stream)
    found = np.empty_like(order)
    found[order] = np.roll(order, -1)
    return found


def blocks(total: int, size: int = BLOCK) -> list[Int64[np.ndarray, " m"]]:
    """Deal positions out into as few blocks as there must be, so that a set sorted by class is mixed in each.

    Example:
        >>> [block.tolist() for block in blocks(5, 2)]
        [[0, 3], [1, 4], [2]]
    """
    count = -(-total // size)
    return [np.arange(start, total, count, dtype=np.int64) for start in range(count)]
