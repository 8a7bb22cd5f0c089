"""Ranks, tests and adjustments, counted one by one.

Sources: Wilcoxon 1945 (signed ranks, exact by all signs), Lehmann 1975 (normal approximation, corrected for ties),
Kerby 2014 (rank-biserial correlation), Holm 1979.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence


def ranks(values: Sequence[float]) -> list[float]:
    """1 for the smallest; those that are equal share the mean of their ranks."""
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2 for value in values
    ]


def signed(differences: Sequence[float]) -> list[float]:
    """The ranks of what is not zero, with the signs of the differences."""
    moved = [d for d in differences if d != 0]
    return [math.copysign(rank, d) for rank, d in zip(ranks([abs(d) for d in moved]), moved, strict=True)]


def rank_biserial(differences: Sequence[float]) -> float:
    """(favourable - unfavourable) / total rank sum."""
    found = signed(differences)
    favourable = math.fsum(rank for rank in found if rank > 0)
    unfavourable = -math.fsum(rank for rank in found if rank < 0)
    return (favourable - unfavourable) / (favourable + unfavourable)


def wilcoxon_exact(differences: Sequence[float]) -> float:
    """Share of all 2^n ways to put signs whose rank sum is at least as far from zero."""
    found = signed(differences)
    seen = abs(math.fsum(found))
    ways = itertools.product((-1, 1), repeat=len(found))
    sums = [abs(math.fsum(sign * abs(rank) for sign, rank in zip(signs, found, strict=True))) for signs in ways]
    return sum(total >= seen - 1e-9 for total in sums) / len(sums)


def wilcoxon_normal(differences: Sequence[float]) -> float:
    """2 Phi(-|W| / sd): the sum of the signed ranks has the variance sum rank^2, ties included."""
    found = signed(differences)
    return math.erfc(abs(math.fsum(found)) / math.sqrt(math.fsum(rank**2 for rank in found)) / math.sqrt(2))


def holm(p_values: Sequence[float]) -> list[float]:
    """For each test the largest of (m - j) p_(j), j counting from 0, over those whose p is not above its own."""
    known = sorted(p for p in p_values if not math.isnan(p))
    steps = [(len(known) - j) * p for j, p in enumerate(known)]
    return [
        math.nan if math.isnan(own) else min(1.0, max(s for p, s in zip(known, steps, strict=True) if p <= own))
        for own in p_values
    ]
