"""Several tests at once, and how many seeds a test needs.

References:
    - Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
    - Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988, chapter 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from distill.metrics.significance.intervals import check_fraction

_MOST = 10_000


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number, so that the chance of one false finding among them stays what it says.

    Convention:
        - The i-th smallest of m is multiplied by m - i + 1, is at least the one before it and at most 1.
        - NaN, a test that could not be made, stays NaN and does not count.

    Args:
        p_values: Of the tests that are looked at together.

    Returns:
        Adjusted values in the given order.

    Raises:
        ValueError: if a value is neither in [0, 1] nor NaN.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    wrong = [p for p in p_values if not (math.isnan(p) or 0 <= p <= 1)]
    if wrong:
        raise ValueError(f"`p_values` must lie between 0 and 1, got {wrong}.")
    adjusted = [math.nan] * len(p_values)
    least = 0.0
    factors = holm_factors(p_values)
    for i in sorted((i for i, factor in enumerate(factors) if factor), key=lambda i: p_values[i]):
        least = min(max(least, factors[i] * p_values[i]), 1.0)
        adjusted[i] = least
    return adjusted


def holm_factors(p_values: Sequence[float]) -> list[int]:
    """Give what :func:`holm` multiplies each value by; 0 for NaN.

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
    """Give the smallest number of pairs with which a two-sided paired t-test finds an effect.

    Args:
        effect: Cohen's d_z, as in :func:`~distill.metrics.significance.compare_seeds`; its sign does not matter.
        power: How often the test must find it, in (0, 1).
        alpha: Level of the test, in (0, 1).

    Returns:
        At least 2; None where the effect is 0 or NaN, or more than 10,000 are needed.

    Raises:
        ValueError: if power or level is out of range.

    Example:
        >>> seeds_needed(0.5)
        34
    """
    check_fraction("power", power)
    check_fraction("alpha", alpha)
    if math.isnan(effect) or effect == 0 or _power(abs(effect), _MOST, alpha) < power:
        return None
    few, enough = 1, _MOST
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if _power(abs(effect), middle, alpha) >= power else (middle, enough)
    return enough


def _power(effect: float, n: int, alpha: float) -> float:
    """Chance that t, which is noncentral under the effect, leaves the central quantiles."""
    if math.isinf(effect):
        return 1.0
    from scipy.stats import nct, t

    critical, shift = t.isf(alpha / 2, n - 1), effect * math.sqrt(n)
    # The wrong side is less likely than a normal variable below -shift; scipy gives NaN for it where that is far out.
    wrong_side = nct.cdf(-critical, n - 1, shift) if shift < 6 else 0.0
    return float(nct.sf(critical, n - 1, shift) + wrong_side)
