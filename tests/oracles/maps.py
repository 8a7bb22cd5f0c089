"""Scales and sizes of maps, one map and one pixel at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from tests.oracles.cam import Array, sites


def normalize(maps: Array, how: str) -> Array:
    """Each map by its own norm, maximum, sum or range; a map without any extent becomes zero."""
    result = np.zeros_like(maps)
    for n in range(len(maps)):
        values = [float(maps[(n, *site)]) for site in sites(maps[n])]
        shift = 0.0
        if how == "l2":
            size = math.sqrt(math.fsum(value * value for value in values))
        elif how == "max":
            size = max(values)
        elif how == "sum":
            size = math.fsum(values)
        elif how == "min_max":
            shift = min(values)
            size = max(values) - shift
        elif how == "none":
            size = 1.0
        else:
            raise KeyError(how)
        for site in sites(maps[n]):
            result[(n, *site)] = (maps[(n, *site)] - shift) / size if size > 0 else 0.0
    return result


def corners(position: int, old: int, new: int) -> tuple[tuple[int, float], tuple[int, float]]:
    """The two old pixels between which a new pixel's centre lies, with their shares (align_corners=False)."""
    centre = max((position + 0.5) * old / new - 0.5, 0.0)
    low = min(math.floor(centre), old - 1)
    high = min(low + 1, old - 1)
    share = centre - low
    return (low, 1.0 - share), (high, share)


def resize(maps: Array, size: Sequence[int]) -> Array:
    """Linear interpolation along each spatial axis."""
    result = np.zeros((len(maps), *size))
    for index in sites(result):
        pairs = [corners(index[d + 1], maps.shape[d + 1], size[d]) for d in range(len(size))]
        for chosen in itertools.product(*pairs):
            share = math.prod(pair[1] for pair in chosen)
            result[index] += share * maps[(index[0], *(pair[0] for pair in chosen))]
    return result
