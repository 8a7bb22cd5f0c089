"""Holm's correction for multiple tests, and the number of seeds that a test needs.

References:
    - Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
    - Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988, chapter 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from distill.metrics.significance.intervals import check_fraction

_MAX_PAIRS = 10_000


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values by Holm's method, which controls the probability of one or more false positives.

    Convention:
        - The i-th smallest of m values is multiplied by m - i + 1; the result is at least the previous one and at
          most 1.
        - NaN (a test that could not be computed) stays NaN and is not counted in m.

    Args:
        p_values: P-values of all tests of the family.

    Returns:
        Adjusted p-values, in the given order.

    Raises:
        ValueError: if a value is neither in [0, 1] nor NaN.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    invalid = [p for p in p_values if not (math.isnan(p) or 0 <= p <= 1)]
    if invalid:
        raise ValueError(f"`p_values` must be between 0 and 1, got {invalid}.")
    adjusted = [math.nan] * len(p_values)
    previous = 0.0
    factors = holm_factors(p_values)
    for i in sorted((i for i, factor in enumerate(factors) if factor), key=lambda i: p_values[i]):
        previous = min(max(previous, factors[i] * p_values[i]), 1.0)
        adjusted[i] = previous
    return adjusted


def holm_factors(p_values: Sequence[float]) -> list[int]:
    """Return the factor by which :func:`holm` multiplies each value; 0 for NaN.

    Example:
        >>> holm_factors([0.01, 0.04, 0.03])
        [3, 1, 2]
    """
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    factors = [0] * len(p_values)
    for rank, i in enumerate(order):
        factors[i] = len(order) - rank
    return factors


def seeds_needed(effect: float, *, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """Return the smallest number of pairs with which a two-sided paired t-test detects an effect.

    Args:
        effect: Cohen's d_z, as in :func:`~distill.metrics.significance.compare_seeds`; its sign is ignored.
        power: Probability that the test detects the effect, in (0, 1).
        alpha: Significance level of the test, in (0, 1).

    Returns:
        At least 2; None if the effect is 0 or NaN, or more than 10,000 pairs are needed.

    Raises:
        ValueError: if ``power`` or ``alpha`` is out of range.

    Example:
        >>> seeds_needed(0.5)
        34
    """
    check_fraction("power", power)
    check_fraction("alpha", alpha)
    if math.isnan(effect) or effect == 0 or _power(abs(effect), _MAX_PAIRS, alpha) < power:
        return None
    too_few, enough = 1, _MAX_PAIRS
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if _power(abs(effect), middle, alpha) >= power else (middle, enough)
    return enough


def _power(effect: float, n: int, alpha: float) -> float:
    """Probability that t, which has a noncentral t distribution, is beyond the critical values of the test."""
    if math.isinf(effect):
        return 1.0
    from scipy.stats import nct, t

    critical, shift = t.isf(alpha / 2, n - 1), effect * math.sqrt(n)
    # The lower tail is less likely than a normal variable below -shift; for large shifts scipy returns NaN for it.
    lower_tail = nct.cdf(-critical, n - 1, shift) if shift < 6 else 0.0
    return float(nct.sf(critical, n - 1, shift) + lower_tail)
