"""Paired comparisons in plain Python, from the textbook; only the distribution itself is scipy's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scipy import stats


class Paired(NamedTuple):
    mean: float
    low: float
    high: float
    p: float
    effect: float


def moments(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1)."""
    mean = sum(values) / len(values)
    return mean, (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean with its 95 % interval."""
    mean, deviation = moments(values)
    half = float(stats.t.isf(0.025, len(values) - 1)) * deviation / len(values) ** 0.5
    return mean, mean - half, mean + half


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    differences = [a - b for a, b in zip(first, second, strict=True)]
    mean, low, high = interval(differences)
    return Paired(mean, low, high, float(stats.ttest_rel(first, second).pvalue), mean / moments(differences)[1])


def holm(ps: Sequence[float]) -> list[float]:
    """Each p times the number of those that are not smaller than it, or what a smaller one got if that is more."""
    adjusted = []
    for p in ps:
        below = [other for other in ps if other <= p]
        adjusted.append(min(1.0, max(other * sum(one >= other for one in ps) for other in below)))
    return adjusted
