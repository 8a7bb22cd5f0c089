"""Confidence intervals of a mean: Student's t for few seeds, bootstrap for many images.

References:
    - Student, "The probable error of a mean", Biometrika 1908.
    - Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13: percentile intervals.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

#: Largest number of bootstrap counts in memory: 16 MB for each of three arrays.
_BLOCK = 2_000_000


class Interval(NamedTuple):
    """A mean, its confidence interval, and the number of values."""

    value: float
    low: float
    high: float
    n: int


def mean_interval(values: ArrayLike, *, confidence: float = 0.95) -> Interval:
    r"""Mean of a few values with its confidence interval, :math:`\bar x \pm t_{n-1} s / \sqrt n`.

    Convention:
        - NaN is excluded. With one value the interval is NaN; with none the mean is NaN, too.

    Args:
        values: One value per seed, (N,).
        confidence: Confidence level, in (0, 1).

    Raises:
        ValueError: if a value is infinite, the shape is not (N,), or the confidence is out of range.

    Example:
        >>> [round(number, 3) for number in mean_interval([0.70, 0.74, 0.72])]
        [0.72, 0.67, 0.77, 3]
    """
    check_fraction("confidence", confidence)
    scores = read_scores("values", values, axes=1)
    scores = scores[~np.isnan(scores)]
    if len(scores) == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    value = float(scores.mean())
    if len(scores) == 1:
        return Interval(value, math.nan, math.nan, 1)
    from scipy.stats import t

    margin = float(t.ppf((1 + confidence) / 2, len(scores) - 1) * scores.std(ddof=1) / math.sqrt(len(scores)))
    return Interval(value, value - margin, value + margin, len(scores))


def bootstrap_means(
    columns: Float[np.ndarray, "images metrics"],
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[Float[np.ndarray, " metrics"], Float[np.ndarray, " metrics"]]:
    """Percentile bootstrap interval of the mean of each metric over the images.

    Convention:
        - Images are resampled, not scores: all metrics use the same resamples, so their intervals are paired.
        - NaN means that an image has no score for a metric. The mean of a resample is the sum of the scores in it
          divided by their number, which varies between resamples.
        - The interval of a metric with fewer than two scores is NaN.

    Args:
        columns: One row per image, one column per metric.
        resamples: Number of resamples; each draws as many images as there are, with replacement.
        seed: Seed of the resampling.
        confidence: Confidence level, in (0, 1).

    Returns:
        Lower and upper ends of the intervals.

    Raises:
        ValueError: if a score is infinite, the shape is not (images, metrics), or an argument is out of range.

    Example:
        >>> low, high = bootstrap_means(np.array([[0.0, 5.0], [1.0, 5.0], [0.0, 5.0], [1.0, 5.0]]))
        >>> low.tolist(), high.tolist()
        ([0.0, 5.0], [1.0, 5.0])
    """
    check_fraction("confidence", confidence)
    if resamples < 1:
        raise ValueError(f"`resamples` must be at least 1, got {resamples}.")
    columns = read_scores("columns", columns, axes=2)
    ends = np.full((2, columns.shape[1]), np.nan)
    scored = (~np.isnan(columns)).sum(0) > 1
    if scored.any():
        means = resampled_means(columns[:, scored], resamples=resamples, seed=seed)
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        ends[:, scored] = np.stack([np.quantile(column[~np.isnan(column)], tails) for column in means.T], 1)
    return ends[0], ends[1]


def resampled_means(
    columns: Float[np.ndarray, "images metrics"], *, resamples: int = 2000, seed: int = 0
) -> Float[np.ndarray, "resamples metrics"]:
    """Return the mean of each metric in each resample of the images, for statistics that are functions of such means.

    Convention:
        - Resampling and the treatment of NaN are those of :func:`bootstrap_means`; the mean of a resample without a
          score is NaN.

    Args:
        columns: One row per image, one column per metric; each column has at least one score.
        resamples: Number of resamples; each draws as many images as there are, with replacement.
        seed: Seed of the resampling.

    Example:
        >>> resampled_means(np.array([[0.5, 5.0], [0.5, np.nan]]), resamples=1, seed=2).shape
        (1, 2)
    """
    generator = np.random.default_rng(seed)
    images, metrics = columns.shape
    valid = ~np.isnan(columns)
    centre = np.where(valid, columns, 0.0).sum(0) / valid.sum(0)
    summands = np.concatenate([np.where(valid, columns - centre, 0.0), valid], 1)
    block = max(_BLOCK // images, 1)
    means = []
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = generator.integers(images, size=(size, images))
        drawn += np.arange(size)[:, None] * images
        counts = np.bincount(drawn.ravel(), minlength=size * images).reshape(size, images)
        sums = counts.astype(np.float64) @ summands
        total, number = sums[:, :metrics], sums[:, metrics:]
        means.append(np.where(number > 0, centre + total / np.maximum(number, 1), np.nan))
    return np.concatenate(means)


def read_scores(name: str, values: ArrayLike, *, axes: int) -> Float[np.ndarray, "..."]:
    """Return scores as a float64 array; raise a ValueError if one is infinite or the number of axes is wrong."""
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != axes:
        shape = "(images, metrics)" if axes == 2 else "(n,)"
        raise ValueError(f"`{name}` must have shape {shape}, got {scores.shape}.")
    if np.isinf(scores).any():
        raise ValueError(
            f"`{name}` must be finite, or NaN for a missing score; got {np.isinf(scores).sum()} infinite values."
        )
    return scores


def check_fraction(name: str, value: float) -> None:
    """Raise a ValueError unless 0 < value < 1."""
    if not 0 < value < 1:
        raise ValueError(f"`{name}` must be between 0 and 1, got {value}.")
