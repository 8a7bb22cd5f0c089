"""Fidelity: whether two networks give the same answer."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from distill.metrics.base import MeanScore, wide


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
    _same_classes(logits, reference_logits)
    same = logits.argmax(1) == reference_logits.argmax(1)
    broken = logits.isnan().any(1) | reference_logits.isnan().any(1)
    return torch.where(broken, torch.nan, same.float())


def output_kl(
    logits: Float[Tensor, "n classes"], reference_logits: Float[Tensor, "n classes"], *, temperature: float = 1.0
) -> Float[Tensor, " n"]:
    r"""Divergence of a network's probabilities from the reference's, :math:`\mathrm{KL}(\sigma(z_r)\,\|\,\sigma(z))`.

    Convention:
        - In nats; the reference first: what the network gives no probability where the reference does, costs much.
        - In log space, float32 or wider: saturated logits stay finite. Not multiplied by the squared temperature.
        - NaN (no score) where a logit of either is not finite.

    Args:
        logits: Of the network that is judged.
        reference_logits: Of the network that it is compared with.
        temperature: Divides both, above 0.

    Returns:
        A score for every image, not negative.

    Raises:
        ValueError: if the shapes differ, or the temperature is not above 0.

    Example:
        >>> output_kl(torch.tensor([[0.0, 0.0], [1.0, 3.0]]), torch.tensor([[2.0, 0.0], [1.0, 3.0]]))
        tensor([0.3278, 0.0000])
    """
    _same_classes(logits, reference_logits)
    if not temperature > 0:
        raise ValueError(f"`temperature` must be above 0, got {temperature}.")
    log_q = F.log_softmax(wide(logits) / temperature, dim=1)
    log_p = F.log_softmax(wide(reference_logits) / temperature, dim=1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1).clamp(min=0.0)


def _same_classes(logits: Tensor, reference_logits: Tensor) -> None:
    if logits.shape != reference_logits.shape:
        raise ValueError(
            "both networks must have the same classes, got logits "
            f"{tuple(logits.shape)} and {tuple(reference_logits.shape)}."
        )


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


class OutputKL(MeanScore):
    """Mean divergence of a network's probabilities from the reference's.

    Args:
        temperature: See :func:`output_kl`.
        kwargs: What every torchmetrics metric takes.
    """

    higher_is_better = False

    def __init__(self, *, temperature: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = temperature

    def update(  # type: ignore[override]  # torchmetrics: every metric has arguments of its own
        self, logits: Float[Tensor, "n classes"], reference_logits: Float[Tensor, "n classes"]
    ) -> None:
        """Add a batch; see :func:`output_kl`."""
        self._add(output_kl(logits, reference_logits, temperature=self.temperature))
