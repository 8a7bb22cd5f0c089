"""Metrics computed image by image and pixel by pixel in float64; None if an image has no score."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.oracles.maps import resize

Array = NDArray[Any]


def agreement(logits: Array, reference: Array) -> list[float]:
    def first(row: Array) -> int:
        return max(range(len(row)), key=lambda c: float(row[c]))

    return [1.0 if first(a) == first(b) else 0.0 for a, b in zip(logits, reference, strict=True)]


def cosine(maps: Array, reference: Array) -> list[float | None]:
    scores: list[float | None] = []
    for one, other in zip(maps, reference, strict=True):
        a, b = [float(v) for v in one.ravel()], [float(v) for v in other.ravel()]
        lengths = math.sqrt(math.fsum(v * v for v in a)) * math.sqrt(math.fsum(v * v for v in b))
        scores.append(math.fsum(v * w for v, w in zip(a, b, strict=True)) / lengths if lengths > 0 else None)
    return scores


def energy(maps: Array, masks: Array) -> list[float | None]:
    scores: list[float | None] = []
    for heat, mask in zip(resize(maps, masks.shape[1:]), masks, strict=True):
        inside = everything = 0.0
        for y in range(mask.shape[0]):
            for x in range(mask.shape[1]):
                everything += float(heat[y, x])
                inside += float(heat[y, x]) if mask[y, x] else 0.0
        scores.append(inside / everything if everything > 0 and mask.any() else None)
    return scores


def filled(boxes: Array, height: int, width: int) -> Array:
    masks = np.zeros((len(boxes), height, width), dtype=bool)
    for n, instances in enumerate(boxes):
        for x0, y0, x1, y1 in instances:
            for y in range(y0, y1):
                for x in range(x0, x1):
                    masks[n, y, x] = True
    return masks
