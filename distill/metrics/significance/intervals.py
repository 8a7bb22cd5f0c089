"""How sure a mean is: over a few seeds by Student's t, over many images by the bootstrap.

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

#: Counts that are held at a time: 16 MB for each of three arrays.
_BLOCK = 2_000_000


class Interval(NamedTuple):
    """A mean with the interval that it lies in, and the number of values behind it."""

    value: float
    low: float
    high: float
    n: int


def mean_interval(values: ArrayLike, *, confidence: float = 0.95) -> Interval:
    r"""Mean of a few values with its interval, :math:`\bar x \pm t_{n-1} s / \sqrt n`.

    Convention:
        - NaN is left out. Of one value the interval is NaN, of none the mean as well.

    Args:
        values: A figure of every seed, (N,).
        confidence: Share of such intervals that hold the true mean, in (0, 1).

    Raises:
        ValueError: if a value is infinite, the shape is another, or the confidence is out of range.

    Example:
        >>> [round(number, 3) for number in mean_interval([0.70, 0.74, 0.72])]
        [0.72, 0.67, 0.77, 3]
    """
    check_fraction("confidence", confidence)
    found = read_scores("values", values, axes=1)
    found = found[~np.isnan(found)]
    if len(found) == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    value = float(found.mean())
    if len(found) == 1:
        return Interval(value, math.nan, math.nan, 1)
    from scipy.stats import t

    margin = float(t.ppf((1 + confidence) / 2, len(found) - 1) * found.std(ddof=1) / math.sqrt(len(found)))
    return Interval(value, value - margin, value + margin, len(found))


def bootstrap_means(
    columns: Float[np.ndarray, "images figures"],
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[Float[np.ndarray, " figures"], Float[np.ndarray, " figures"]]:
    """Percentile bootstrap of the mean of every figure over the images.

    Convention:
        - Images are drawn, not scores: all figures see the same resamples, so their intervals are paired.
        - NaN: that image has no score for that figure. How many have one is drawn along with their sum.
        - A figure with less than two scores has no interval: NaN.

    Args:
        columns: A row for every image, a column for every figure.
        resamples: How often as many images are drawn, with replacement.
        seed: Fixes what is drawn.
        confidence: Share of the resamples that the interval holds, in (0, 1).

    Returns:
        Lower and upper ends.

    Raises:
        ValueError: if a score is infinite, the shape is another, or a number is out of range.

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
    there = ~np.isnan(columns)
    scored = there.sum(0) > 1
    if scored.any():
        means = resampled_means(columns[:, scored], resamples=resamples, seed=seed)
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        ends[:, scored] = np.stack([np.quantile(one[~np.isnan(one)], tails) for one in means.T], 1)
    return ends[0], ends[1]


def resampled_means(
    columns: Float[np.ndarray, "images figures"], *, resamples: int = 2000, seed: int = 0
) -> Float[np.ndarray, "resamples figures"]:
    """Give the mean of every figure in every resample of the images, for figures that are functions of such means.

    Convention:
        - Images are drawn, and NaN is treated, as in :func:`bootstrap_means`; NaN where a resample has no score.

    Args:
        columns: A row for every image, a column for every figure; each has at least one score.
        resamples: How often as many images are drawn, with replacement.
        seed: Fixes what is drawn.

    Example:
        >>> resampled_means(np.array([[0.5, 5.0], [0.5, np.nan]]), resamples=1, seed=2).shape
        (1, 2)
    """
    generator = np.random.default_rng(seed)
    images, figures = columns.shape
    there = ~np.isnan(columns)
    centre = np.where(there, columns, 0.0).sum(0) / there.sum(0)
    sums_of = np.concatenate([np.where(there, columns - centre, 0.0), there], 1)
    block = max(_BLOCK // images, 1)
    means = []
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = generator.integers(images, size=(size, images))
        drawn += np.arange(size)[:, None] * images
        counts = np.bincount(drawn.ravel(), minlength=size * images).reshape(size, images)
        sums = counts.astype(np.float64) @ sums_of
        total, number = sums[:, :figures], sums[:, figures:]
        means.append(np.where(number > 0, centre + total / np.maximum(number, 1), np.nan))
    return np.concatenate(means)


def read_scores(name: str, values: ArrayLike, *, axes: int) -> Float[np.ndarray, "..."]:
    """Read scores as float64 and refuse what is infinite or of another shape."""
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != axes:
        shape = "(images, figures)" if axes == 2 else "(n,)"
        raise ValueError(f"`{name}` must be of shape {shape}, got {found.shape}.")
    if np.isinf(found).any():
        raise ValueError(
            f"`{name}` must be finite, or NaN where there is no score; got {np.isinf(found).sum()} of inf."
        )
    return found


def check_fraction(name: str, share: float) -> None:
    """Raise a ValueError unless a number lies between 0 and 1."""
    if not 0 < share < 1:
        raise ValueError(f"`{name}` must lie between 0 and 1, got {share}.")
