"""Seeded sampling: which images are drawn, their order, and the other image that a map is compared with."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

#: Largest number of images whose raw maps are held in memory at a time.
BLOCK = 1024


def permutation(total: int, *, seed: int, stream: int = 0) -> Int64[np.ndarray, " n"]:
    """Return a permutation of the positions 0 to ``total`` - 1 that depends on the seed only, not on the platform."""
    words = np.random.Philox(key=[seed % 2**64, stream]).random_raw(total)
    return np.argsort(words, kind="stable").astype(np.int64)


def sample(total: int, count: int, *, seed: int) -> list[int]:
    """Draw positions at random, without replacement.

    Convention:
        - The same seed gives the same positions on every platform; a larger ``count`` extends a smaller one.

    Args:
        total: Number of images.
        count: Number of positions to draw; all of them if there are fewer.
        seed: Seed of the draw.

    Example:
        >>> sample(1000, 3, seed=0) == sample(1000, 8, seed=0)[:3]
        True
    """
    return [int(i) for i in permutation(total, seed=seed)[:count]]


def other_images(total: int, *, seed: int, stream: int = 0) -> Int64[np.ndarray, " n"]:
    """Assign another position to every position, each exactly once; a single position is assigned to itself.

    Example:
        >>> others = other_images(5, seed=0)
        >>> sorted(others.tolist()), bool((others == np.arange(5)).any())
        ([0, 1, 2, 3, 4], False)
    """
    order = permutation(total, seed=seed, stream=stream)
    others = np.empty_like(order)
    others[order] = np.roll(order, -1)
    return others


def blocks(total: int, size: int = BLOCK) -> list[Int64[np.ndarray, " m"]]:
    """Split positions into as few strided blocks as possible; the classes of a sorted set are mixed in every block.

    Example:
        >>> [block.tolist() for block in blocks(5, 2)]
        [[0, 3], [1, 4], [2]]
    """
    count = -(-total // size)
    return [np.arange(start, total, count, dtype=np.int64) for start in range(count)]
