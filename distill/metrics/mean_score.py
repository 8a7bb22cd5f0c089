"""The mean of scores that some images do not have."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric


class Measurement(NamedTuple):
    """A mean, the number of images behind it, and the number of those that it leaves out."""

    value: Float[Tensor, ""]
    n: Int[Tensor, ""]
    excluded: Int[Tensor, ""]


class MeanScore(Metric):
    """Mean of scores over batches and processes; the base of the metrics of this room.

    Convention:
        - A score that is NaN says that the image has none: it is left out and counted.
        - Without any score the value is NaN, never 0.

    Example:
        >>> metric = MeanScore()
        >>> metric.update(torch.tensor([1.0, float("nan"), 0.5]))
        >>> metric.compute()
        Measurement(value=tensor(0.7500, dtype=torch.float64), n=tensor(2), excluded=tensor(1))
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    total: Tensor
    n: Tensor
    excluded: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("n", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("excluded", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: Float[Tensor, " n"]) -> None:
        """Add the scores of a batch."""
        self._add(scores)

    def compute(self) -> Measurement:
        """Give the mean over all batches and processes."""
        return Measurement(self.total / self.n, self.n, self.excluded)

    def _add(self, scores: Tensor) -> None:
        missing = scores.isnan()
        self.total += torch.where(missing, 0.0, scores).sum(dtype=torch.float64)
        self.n += (~missing).sum()
        self.excluded += missing.sum()
