"""Counter-based random numbers: a pure function of purpose, seed and position, the same on every machine and run."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Purpose(IntEnum):
    """Use of random numbers; each purpose has its own stream. The values must never change."""

    ORDER = 1
    VIEW = 2
    PARTITION = 3
    SCENE_LAYOUT = 4
    SCENE_TEXTURE = 5
    VIEW_CHOICE = 6
    BALANCE = 7
    TRANSFORM = 8
    MIX = 9


def random_stream(purpose: Purpose, *, seed: int, part: int = 0, position: int = 0) -> np.random.Philox:
    """Return the bit generator for a purpose, a seed and a part (an epoch or a split).

    Convention:
        - Use only ``random_raw``: numpy guarantees that its output never changes, but not that of its distributions.
        - Streams of another purpose, seed or part do not overlap; ``seed`` is taken modulo 2 ** 64.
        - ``position`` p is where a stream starts: after 4 p words.

    Example:
        >>> random_stream(Purpose.ORDER, seed=0).random_raw(2)
        array([15003734204198539638, 13859618513508960101], dtype=uint64)
        >>> random_stream(Purpose.ORDER, seed=0, position=1).random_raw(1)
        array([13008555726918767727], dtype=uint64)
    """
    key = np.array([seed % 2**64, int(purpose)], np.uint64)
    return np.random.Philox(key=key, counter=np.array([position, 0, part, 0], np.uint64))


def integers_below(words: NDArray[np.uint64], bound: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Convert random 64-bit words to integers from 0 to ``bound`` - 1, uniform up to 2 ** -32.

    Example:
        >>> integers_below(np.array([0, 2**63, 2**64 - 1], np.uint64), 10)
        array([0, 5, 9])
    """
    scaled = (words >> np.uint64(32)) * np.asarray(bound).astype(np.uint64)
    return (scaled >> np.uint64(32)).astype(np.int64)


def permutation(n: int, purpose: Purpose, *, seed: int, part: int = 0) -> NDArray[np.int64]:
    """Return a random permutation of the integers from 0 to ``n`` - 1.

    Example:
        >>> permutation(5, Purpose.ORDER, seed=0)
        array([3, 2, 4, 1, 0])
    """
    words = random_stream(purpose, seed=seed, part=part).random_raw(n)
    return np.argsort(words, kind="stable").astype(np.int64)
