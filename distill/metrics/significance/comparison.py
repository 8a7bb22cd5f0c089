"""Paired comparisons of two networks over images, or of two training configurations over seeds.

A comparison over images tests whether these two networks differ on images like these. A comparison over seeds tests
whether the training configurations differ. Only the latter supports conclusions about a method, since two networks
trained with different seeds of one configuration also differ over images.

References:
    - Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1945.
    - Kerby, "The simple difference formula", Comprehensive Psychology 2014: the rank-biserial correlation of pairs.
    - Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988, section 2.3.5: d_z.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from distill.metrics.significance.intervals import bootstrap_means, mean_interval, read_scores


class Comparison(NamedTuple):
    """First minus second: mean difference, its interval, two-sided p-value, effect size and number of pairs."""

    difference: float
    low: float
    high: float
    p: float
    effect: float
    n: int


def compare_images(
    first: ArrayLike, second: ArrayLike, *, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Comparison:
    """Compare the scores of two networks on the same images.

    Convention:
        - Images for which one of the scores is NaN are excluded. With no pairs, all results are NaN; with one pair, the
          interval is NaN.
        - The interval is a paired percentile bootstrap interval of the mean difference, see :func:`bootstrap_means`.
        - ``p`` is that of Wilcoxon's signed-rank test. Zero differences are dropped before ranking, as in Wilcoxon's
          paper; if all are zero, p is 1 and the effect 0.
        - ``effect`` is the matched-pairs rank-biserial correlation, from -1 to 1: over the non-zero differences, the
          share of the rank sum with first > second minus the share with first < second.

    Args:
        first: One score per image of the first network, (N,).
        second: The same for the second network.
        resamples: See :func:`bootstrap_means`.
        seed: Seed of the bootstrap.
        confidence: Confidence level of the interval, in (0, 1).

    Raises:
        ValueError: if the numbers of images differ, or a score is infinite.

    Example:
        >>> compare_images([0.9, 0.8, 0.7, 0.6], [0.5, 0.6, 0.7, 0.5]).effect
        1.0
    """
    pair = read_scores("first", first, axes=1)[:, None], read_scores("second", second, axes=1)[:, None]
    return compare_many(*pair, resamples=resamples, seed=seed, confidence=confidence)[0]


def compare_many(
    first: Float[np.ndarray, "images metrics"],
    second: Float[np.ndarray, "images metrics"],
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[Comparison]:
    """Compare two networks by several metrics: :func:`compare_images` for each column, with the same resamples.

    Raises:
        ValueError: if the shapes differ, or a score is infinite.
    """
    differences = _differences(first, second, axes=2)
    low, high = bootstrap_means(differences, resamples=resamples, seed=seed, confidence=confidence)
    comparisons = []
    for column, lower, upper in zip(differences.T, low, high, strict=True):
        valid = column[~np.isnan(column)]
        mean = float(valid.mean()) if len(valid) else math.nan
        comparisons.append(Comparison(mean, float(lower), float(upper), *_signed_rank_test(valid), len(valid)))
    return comparisons


def compare_seeds(first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95) -> Comparison:
    r"""Compare a metric of two training configurations that were run with the same seeds.

    Convention:
        - Paired by position; seeds for which one of the values is NaN are excluded.
        - Interval and ``p`` are those of the paired t-test; ``effect`` is Cohen's :math:`d_z`, the mean difference
          divided by its standard deviation over seeds.
        - With fewer than two pairs, interval, p and effect are NaN.
        - If all differences are equal up to rounding, the t-test is undefined. If they are zero, p is 1, the effect 0
          and the interval [0, 0]. Otherwise, since a coarse metric can give equal differences for few seeds by chance,
          p is that of the sign test, 2^(1 - n), the effect is infinite and the interval NaN.

    Args:
        first: One value per seed of the first configuration, (N,).
        second: The same for the second configuration, in the same order of seeds.
        confidence: Confidence level of the interval, in (0, 1).

    Raises:
        ValueError: if the numbers of seeds differ, a value is infinite, or the confidence is out of range.

    Example:
        >>> [round(number, 3) for number in compare_seeds([0.74, 0.75, 0.73], [0.70, 0.73, 0.72])]
        [0.023, -0.015, 0.061, 0.118, 1.528, 3]
    """
    differences = _differences(first, second, axes=1)
    largest = max(np.nanmax(np.abs(np.asarray(values, dtype=np.float64)), initial=0.0) for values in (first, second))
    valid = differences[~np.isnan(differences)]
    value, low, high, n = mean_interval(valid, confidence=confidence)
    if n < 2:
        return Comparison(value, math.nan, math.nan, math.nan, math.nan, n)
    rounding = 8 * np.finfo(np.float64).eps * largest
    if np.ptp(valid) <= rounding:
        if abs(value) <= rounding:
            return Comparison(0.0, 0.0, 0.0, 1.0, 0.0, n)
        return Comparison(value, math.nan, math.nan, 2.0 ** (1 - n), math.copysign(math.inf, value), n)
    from scipy.stats import t

    effect = value / float(valid.std(ddof=1))
    p = 2 * float(t.sf(abs(effect) * math.sqrt(n), n - 1))
    return Comparison(value, low, high, p, effect, n)


def _differences(first: ArrayLike, second: ArrayLike, *, axes: int) -> Float[np.ndarray, "..."]:
    a, b = read_scores("first", first, axes=axes), read_scores("second", second, axes=axes)
    if a.shape != b.shape:
        raise ValueError(f"`first` and `second` must have the same shape, got {a.shape} and {b.shape}.")
    return a - b


def _signed_rank_test(differences: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Return the p-value of Wilcoxon's signed-rank test and the rank-biserial correlation."""
    if len(differences) == 0:
        return math.nan, math.nan
    nonzero = differences[differences != 0]
    if len(nonzero) == 0:
        return 1.0, 0.0
    from scipy.stats import rankdata, wilcoxon

    ranks = rankdata(np.abs(nonzero))
    effect = float((np.sign(nonzero) * ranks).sum() / ranks.sum())
    return float(wilcoxon(nonzero).pvalue), effect
