"""Is one network better than another? Paired over the images of one pair, or over the seeds of two recipes.

Over images it is asked whether these two networks differ on images like these; over seeds, whether the recipes do.
Only the second says anything about a method: two seeds of one recipe differ over images too.

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
    """First minus second: the mean difference and its interval, a two-sided p, the size of the effect, the pairs."""

    difference: float
    low: float
    high: float
    p: float
    effect: float
    n: int


def compare_images(
    first: ArrayLike, second: ArrayLike, *, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Comparison:
    """Compare the scores that two networks have on the same images.

    Convention:
        - Images that lack one of the scores (NaN) are left out. Without a pair all is NaN; one pair has no interval.
        - The interval is a paired percentile bootstrap of the mean difference, see :func:`bootstrap_means`.
        - ``p`` is Wilcoxon's signed-rank test. Differences of zero are dropped before they are ranked, as Wilcoxon did;
          if all are zero, p is 1 and the effect 0.
        - ``effect`` is the matched-pairs rank-biserial correlation, from -1 to 1: the share of the ranks that speaks
          for the first minus the share that speaks for the second, of the differences that are not zero.

    Args:
        first: A score for every image, (N,).
        second: The same of the other network.
        resamples: See :func:`bootstrap_means`.
        seed: Fixes the resamples.
        confidence: Of the interval.

    Raises:
        ValueError: if the numbers of images differ, or a score is infinite.

    Example:
        >>> compare_images([0.9, 0.8, 0.7, 0.6], [0.5, 0.6, 0.7, 0.5]).effect
        1.0
    """
    pair = read_scores("first", first, axes=1)[:, None], read_scores("second", second, axes=1)[:, None]
    return compare_many(*pair, resamples=resamples, seed=seed, confidence=confidence)[0]


def compare_many(
    first: Float[np.ndarray, "images figures"],
    second: Float[np.ndarray, "images figures"],
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[Comparison]:
    """Compare two networks by several figures, which share the resamples: :func:`compare_images` for every column.

    Raises:
        ValueError: if the shapes differ, or a score is infinite.
    """
    differences = _differences(first, second, axes=2)
    low, high = bootstrap_means(differences, resamples=resamples, seed=seed, confidence=confidence)
    found = []
    for column, lower, upper in zip(differences.T, low, high, strict=True):
        known = column[~np.isnan(column)]
        mean = float(known.mean()) if len(known) else math.nan
        found.append(Comparison(mean, float(lower), float(upper), *_signed_ranks(known), len(known)))
    return found


def compare_seeds(first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95) -> Comparison:
    r"""Compare a figure of two recipes that were run with the same seeds.

    Convention:
        - Paired by position; seeds that lack one of the figures (NaN) are left out.
        - Interval and ``p`` are those of the paired t-test; ``effect`` is Cohen's :math:`d_z`, the mean difference in
          units of its standard deviation over seeds.
        - Fewer than two pairs: interval, p and effect are NaN.
        - Differences that are all the same, up to rounding, have no spread, and t says nothing. All zero: p is 1, the
          effect 0, the interval that point. Otherwise few seeds of a coarse figure may have done so by chance: p is
          that of the sign test, 2^(1 - n), the effect infinite, and there is no interval.

    Args:
        first: The figure of every seed, (N,).
        second: The same of the other recipe, in the same order of seeds.
        confidence: Of the interval.

    Raises:
        ValueError: if the numbers of seeds differ, a figure is infinite, or the confidence is out of range.

    Example:
        >>> [round(number, 3) for number in compare_seeds([0.74, 0.75, 0.73], [0.70, 0.73, 0.72])]
        [0.023, -0.015, 0.061, 0.118, 1.528, 3]
    """
    differences = _differences(first, second, axes=1)
    size = max(np.nanmax(np.abs(np.asarray(one, dtype=np.float64)), initial=0.0) for one in (first, second))
    known = differences[~np.isnan(differences)]
    value, low, high, n = mean_interval(known, confidence=confidence)
    if n < 2:
        return Comparison(value, math.nan, math.nan, math.nan, math.nan, n)
    rounding = 8 * np.finfo(np.float64).eps * size
    if np.ptp(known) <= rounding:
        if abs(value) <= rounding:
            return Comparison(0.0, 0.0, 0.0, 1.0, 0.0, n)
        return Comparison(value, math.nan, math.nan, 2.0 ** (1 - n), math.copysign(math.inf, value), n)
    from scipy.stats import t

    effect = value / float(known.std(ddof=1))
    p = 2 * float(t.sf(abs(effect) * math.sqrt(n), n - 1))
    return Comparison(value, low, high, p, effect, n)


def _differences(first: ArrayLike, second: ArrayLike, *, axes: int) -> Float[np.ndarray, "..."]:
    one, other = read_scores("first", first, axes=axes), read_scores("second", second, axes=axes)
    if one.shape != other.shape:
        raise ValueError(f"`first` and `second` must be paired, got shapes {one.shape} and {other.shape}.")
    return one - other


def _signed_ranks(differences: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Test differences for a centre at zero; give p and the rank-biserial correlation."""
    if len(differences) == 0:
        return math.nan, math.nan
    moved = differences[differences != 0]
    if len(moved) == 0:
        return 1.0, 0.0
    from scipy.stats import rankdata, wilcoxon

    ranks = rankdata(np.abs(moved))
    effect = float((np.sign(moved) * ranks).sum() / ranks.sum())
    return float(wilcoxon(moved).pvalue), effect
