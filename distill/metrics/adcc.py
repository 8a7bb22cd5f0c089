"""ADCC: average drop, coherency and complexity in one figure that none of the three can trick alone."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from distill.metrics.mean_score import Measurement


def adcc(
    coherency: Float[Tensor, "*n"], complexity: Float[Tensor, "*n"], drop: Float[Tensor, "*n"]
) -> Float[Tensor, "*n"]:
    r"""Harmonic mean of coherency, 1 - complexity and 1 - drop.

    Convention:
        - All three from 0 to 1, the drop not in per cent. 0 where one of the parts is 0, without a division by it.
        - NaN where one of the three is.

    Args:
        coherency: See :func:`distill.metrics.coherency`.
        complexity: See :func:`distill.metrics.complexity`.
        drop: See :func:`distill.metrics.average_drop`.

    Returns:
        A number from 0 to 1 for every triple.

    References:
        Poppi et al., "Revisiting the Evaluation of Class Activation Mapping for Explainability", CVPR workshops 2021,
        equation 6.

    Example:
        >>> adcc(torch.tensor([0.9, 1.0]), torch.tensor([0.4, 1.0]), torch.tensor([0.2, 0.0]))
        tensor([0.7448, 0.0000])
    """
    a, b, c = coherency, 1 - complexity, 1 - drop
    pairs = a * b + b * c + c * a
    return 3 * a * b * c / torch.where(pairs == 0, 1.0, pairs)


class ADCC(Metric):
    """ADCC of the mean coherency, the mean complexity and the average drop, over batches and processes.

    Convention:
        - Of the means, not a mean of every image's ADCC. An image without one of the three is excluded and counted.

    Example:
        >>> metric = ADCC()
        >>> metric.update(torch.tensor([0.8, 1.0]), torch.tensor([0.3, 0.5]), torch.tensor([0.0, 0.4]))
        >>> metric.compute()
        Measurement(value=tensor(0.7448, dtype=torch.float64), n=tensor(2), excluded=tensor(0))
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    totals: Tensor
    n: Tensor
    excluded: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("totals", torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("n", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("excluded", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self, coherency: Float[Tensor, " n"], complexity: Float[Tensor, " n"], drop: Float[Tensor, " n"]
    ) -> None:
        """Add the three scores of every image of a batch."""
        parts = torch.stack([coherency.double(), complexity.double(), drop.double()])
        missing = parts.isnan().any(0)
        self.totals += torch.where(missing, 0.0, parts).sum(1)
        self.n += (~missing).sum()
        self.excluded += missing.sum()

    def compute(self) -> Measurement:
        """Give the figure over all batches and processes."""
        return Measurement(adcc(*(self.totals / self.n).unbind()), self.n, self.excluded)
