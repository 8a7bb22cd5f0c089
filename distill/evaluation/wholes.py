"""Figures of all images together that are no mean over them: calibration error and ADCC."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float

from distill.evaluation.extent import Extent
from distill.evaluation.scores import ImageScores
from distill.metrics import adcc, expected_calibration_error
from distill.metrics.statistics import resampled_means
from distill.report.record import Measured

_BINS = 15
_PARTS = ("coherency", "complexity", "average_drop")


def calibration_error(scores: ImageScores, extent: Extent) -> Measured:
    """Measure the gap between confidence and accuracy; see :func:`distill.metrics.expected_calibration_error`."""
    right, sure = scores.columns["accuracy"].values, scores.probability
    value = float(expected_calibration_error(torch.from_numpy(sure), torch.from_numpy(right), bins=_BINS))
    edges = torch.linspace(0, 1, _BINS + 1)[1:-1]
    member = torch.bucketize(torch.from_numpy(sure), edges).numpy()[:, None] == np.arange(_BINS)
    gaps = (right.astype(np.float64) - sure)[:, None] * np.where(np.isnan(sure)[:, None], np.nan, member)
    return _measured(value, gaps, lambda means: np.abs(means).sum(1), extent)


def adcc_of_means(scores: ImageScores, extent: Extent) -> Measured | None:
    """Measure ADCC over the images that have all of its parts; see :class:`distill.metrics.ADCC`."""
    if not all(name in scores.columns for name in _PARTS):
        return None
    parts = np.stack([scores.columns[name].values.astype(np.float64) for name in _PARTS], 1)
    parts[np.isnan(parts).any(1)] = np.nan
    known = parts[~np.isnan(parts[:, 0])]
    value = float(_adcc(known.mean(0, keepdims=True))[0]) if len(known) else np.nan
    return _measured(value, parts, _adcc, extent)


def _adcc(means: Float[np.ndarray, "m 3"]) -> Float[np.ndarray, " m"]:
    return adcc(*torch.from_numpy(means).unbind(1)).numpy()


def _measured(
    value: float,
    columns: Float[np.ndarray, "n k"],
    figure: Callable[[Float[np.ndarray, "m k"]], Float[np.ndarray, " m"]],
    extent: Extent,
) -> Measured:
    n = int((~np.isnan(columns[:, 0])).sum())
    low = high = None
    if extent.resamples and n > 1:
        drawn = figure(resampled_means(columns, resamples=extent.resamples, seed=extent.seed))
        low, high = (round(float(end), 12) for end in np.nanquantile(drawn, [0.025, 0.975]))
    return Measured(value=value if n else None, low=low, high=high, n=n, excluded=len(columns) - n)


#: What takes all scores of a network, by the name of the figure.
WHOLES: dict[str, Callable[[ImageScores, Extent], Measured | None]] = {
    "calibration_error": calibration_error,
    "adcc": adcc_of_means,
}
