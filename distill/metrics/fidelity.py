"""Fidelity: whether two networks give the same answer."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from distill.metrics.mean_score import MeanScore


def top_one_agreement(
    logits: Float[Tensor, "n classes"], reference_logits: Float[Tensor, "n classes"]
) -> Float[Tensor, " n"]:
    """Tell for every image whether both networks choose the same class first, right or wrong.

    Convention:
        - 1 where they agree, 0 where not; NaN (no score) where a logit of either is NaN.

    Args:
        logits: Of the network that is judged.
        reference_logits: Of the network that it is compared with.

    Returns:
        A score for every image.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> top_one_agreement(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([[5.0, 0.0], [1.0, 0.0]]))
        tensor([1., 0.])
    """
    if logits.shape != reference_logits.shape:
        raise ValueError(
            "both networks must have the same classes, got logits "
            f"{tuple(logits.shape)} and {tuple(reference_logits.shape)}."
        )
    same = logits.argmax(1) == reference_logits.argmax(1)
    broken = logits.isnan().any(1) | reference_logits.isnan().any(1)
    return torch.where(broken, torch.nan, same.float())


class TopOneAgreement(MeanScore):
    """Share of images on which two networks choose the same class.

    Example:
        >>> metric = TopOneAgreement()
        >>> metric.update(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([[5.0, 0.0], [1.0, 0.0]]))
        >>> metric.compute().value
        tensor(0.5000, dtype=torch.float64)
    """

    def update(  # type: ignore[override]  # torchmetrics: every metric has arguments of its own
        self, logits: Float[Tensor, "n classes"], reference_logits: Float[Tensor, "n classes"]
    ) -> None:
        """Add a batch; see :func:`top_one_agreement`."""
        self._add(top_one_agreement(logits, reference_logits))
