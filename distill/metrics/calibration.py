"""Calibration: the difference between a network's confidence and its accuracy."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, Num, Shaped
from torch import Tensor
from torchmetrics import Metric

from distill.maps import at_least_float32
from distill.metrics.common import Measurement


class CalibrationBins(NamedTuple):
    """Sums over the images in each confidence bin, as needed for a reliability diagram, and the excluded images."""

    confidence: Float[Tensor, " bins"]
    correct: Float[Tensor, " bins"]
    n: Int[Tensor, " bins"]
    excluded: Int[Tensor, ""]


def calibration_bins(
    confidence: Float[Tensor, " n"], correct: Shaped[Tensor, " n"], *, bins: int = 15
) -> CalibrationBins:
    """Sum confidence and correct predictions over bins of equal width.

    Convention:
        - A bin includes its upper edge but not its lower edge; 0 is in the first bin.
        - Images for which ``confidence`` or ``correct`` is NaN are in no bin.

    Args:
        confidence: Probability of the predicted class, 0 to 1.
        correct: 1 or true if the prediction is correct.
        bins: Number of bins, at least 1.

    Raises:
        ValueError: if ``bins`` is not at least 1, or the lengths differ.

    Example:
        >>> calibration_bins(torch.tensor([0.9, 0.7, 0.2]), torch.tensor([1, 0, 1]), bins=2).n
        tensor([1, 2])
    """
    if bins < 1:
        raise ValueError(f"`bins` must be at least 1, got {bins}.")
    if confidence.shape != correct.shape:
        raise ValueError(
            f"`confidence` and `correct` must have the same shape, got {tuple(confidence.shape)} "
            f"and {tuple(correct.shape)}."
        )
    confidence = at_least_float32(confidence)
    confidence64, correct64 = confidence.double(), correct.double()
    valid = ~(confidence64.isnan() | correct64.isnan())
    edges = torch.linspace(0, 1, bins + 1, dtype=confidence.dtype, device=confidence.device)[1:-1]
    member = torch.bucketize(confidence, edges)[:, None] == torch.arange(bins, device=confidence.device)
    member = member & valid[:, None]
    return CalibrationBins(
        confidence=torch.where(member, confidence64[:, None], 0.0).sum(0),
        correct=torch.where(member, correct64[:, None], 0.0).sum(0),
        n=member.sum(0),
        excluded=(~valid).sum(),
    )


def expected_calibration_error(
    confidence: Float[Tensor, " n"], correct: Shaped[Tensor, " n"], *, bins: int = 15
) -> Float[Tensor, ""]:
    r"""Expected calibration error, :math:`\sum_b \frac{n_b}{n} |\mathrm{acc}_b - \mathrm{conf}_b|`.

    Convention:
        - For the bins, see :func:`calibration_bins`. If there are no images, the value is NaN.

    Args:
        confidence: Probability of the predicted class, 0 to 1.
        correct: 1 or true if the prediction is correct.
        bins: Number of bins of equal width.

    Returns:
        A number from 0 to 1, in float64.

    References:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.

    Example:
        >>> expected_calibration_error(torch.tensor([0.9, 0.8, 0.3, 0.3]), torch.tensor([1, 0, 0, 1]), bins=2)
        tensor(0.2750, dtype=torch.float64)
    """
    return _gap(calibration_bins(confidence, correct, bins=bins))


def _gap(sums: CalibrationBins) -> Tensor:
    return (sums.correct - sums.confidence).abs().sum() / sums.n.sum()


class ExpectedCalibrationError(Metric):
    """Expected calibration error over batches and processes.

    Args:
        bins: See :func:`expected_calibration_error`.
        kwargs: Keyword arguments of :class:`torchmetrics.Metric`.

    Example:
        >>> metric = ExpectedCalibrationError(bins=2)
        >>> metric.update(torch.tensor([0.9, 0.8]), torch.tensor([1, 0]))
        >>> metric.update(torch.tensor([0.3, 0.3]), torch.tensor([0, 1]))
        >>> metric.compute()
        Measurement(value=tensor(0.2750, dtype=torch.float64), n=tensor(4), excluded=tensor(0))
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    confidence: Tensor
    correct: Tensor
    n: Tensor
    excluded: Tensor

    def __init__(self, *, bins: int = 15, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if bins < 1:
            raise ValueError(f"`bins` must be at least 1, got {bins}.")
        self.bins = bins
        for name, shape, dtype in (
            ("confidence", (bins,), torch.float64),
            ("correct", (bins,), torch.float64),
            ("n", (bins,), torch.int64),
            ("excluded", (), torch.int64),
        ):
            self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def update(self, confidence: Float[Tensor, " n"], correct: Num[Tensor, " n"]) -> None:
        """Add a batch; see :func:`calibration_bins`."""
        sums = calibration_bins(confidence, correct, bins=self.bins)
        self.confidence += sums.confidence
        self.correct += sums.correct
        self.n += sums.n
        self.excluded += sums.excluded

    def compute(self) -> Measurement:
        """Return the error over all batches and processes."""
        sums = CalibrationBins(self.confidence, self.correct, self.n, self.excluded)
        return Measurement(_gap(sums), self.n.sum(), self.excluded)
