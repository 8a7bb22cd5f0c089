"""Counted randomness: numbers that are a pure function of what they are for, the same on every machine and run."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Purpose(IntEnum):
    """What random numbers are for; each purpose has a stream of its own, so the values must never change."""

    ORDER = 1
    VIEW = 2
    PARTITION = 3
    SCENE_LAYOUT = 4
    SCENE_TEXTURE = 5
    VIEW_CHOICE = 6


def random_stream(purpose: Purpose, *, seed: int, part: int = 0) -> np.random.Philox:
    """Open the stream of one purpose, seed and part (an epoch, a split).

    Convention:
        - Only ``random_raw`` is to be drawn from it: numpy guarantees those words for ever, and its distributions not.
        - Streams of different arguments do not overlap; ``seed`` counts modulo 2 ** 64.

    Example:
        >>> random_stream(Purpose.ORDER, seed=0).random_raw(2)
        array([15003734204198539638, 13859618513508960101], dtype=uint64)
    """
    key = np.array([seed % 2**64, int(purpose)], np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, part, 0], np.uint64))


def integers_below(words: NDArray[np.uint64], bound: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn words into whole numbers from 0 to ``bound`` - 1, uniform to 2 ** -32.

    Example:
        >>> integers_below(np.array([0, 2**63, 2**64 - 1], np.uint64), 10)
        array([0, 5, 9])
    """
    scaled = (words >> np.uint64(32)) * np.asarray(bound).astype(np.uint64)
    return (scaled >> np.uint64(32)).astype(np.int64)


def permutation(n: int, purpose: Purpose, *, seed: int, part: int = 0) -> NDArray[np.int64]:
    """Shuffle the numbers from 0 to ``n`` - 1.

    Example:
        >>> permutation(5, Purpose.ORDER, seed=0)
        array([3, 2, 4, 1, 0])
    """
    words = random_stream(purpose, seed=seed, part=part).random_raw(n)
    return np.argsort(words, kind="stable").astype(np.int64)
