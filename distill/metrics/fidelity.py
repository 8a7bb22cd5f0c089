"""Fidelity: agreement of the predictions of two networks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from distill.maps import at_least_float32
from distill.metrics.common import MeanScore


def top_one_agreement(
    logits: Float[Tensor, "n classes"], reference_logits: Float[Tensor, "n classes"]
) -> Float[Tensor, " n"]:
    """Return 1 for each image on which both networks have the same top-1 prediction, correct or not, else 0.

    Convention:
        - NaN (no score) if a logit of either network is NaN.

    Args:
        logits: Logits of the evaluated network.
        reference_logits: Logits of the reference network.

    Returns:
        One score per image.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> top_one_agreement(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([[5.0, 0.0], [1.0, 0.0]]))
        tensor([1., 0.])
    """
    _check_same_shape(logits, reference_logits)
    same = logits.argmax(1) == reference_logits.argmax(1)
    has_nan = logits.isnan().any(1) | reference_logits.isnan().any(1)
    return torch.where(has_nan, torch.nan, same.float())


def output_kl(
    logits: Float[Tensor, "n classes"], reference_logits: Float[Tensor, "n classes"], *, temperature: float = 1.0
) -> Float[Tensor, " n"]:
    r"""Kullback-Leibler divergence from the reference's probabilities, :math:`\mathrm{KL}(\sigma(z_r)\,\|\,\sigma(z))`.

    Convention:
        - In nats. The reference is the first argument, so a class that is likely for the reference but unlikely for the
          network is penalised most.
        - Computed in log space in float32 or float64, so saturated logits give finite values. Not multiplied by the
          squared temperature.
        - NaN (no score) if a logit of either network is not finite.

    Args:
        logits: Logits of the evaluated network.
        reference_logits: Logits of the reference network.
        temperature: Divides the logits of both networks; above 0.

    Returns:
        One non-negative score per image.

    Raises:
        ValueError: if the shapes differ, or the temperature is not above 0.

    Example:
        >>> output_kl(torch.tensor([[0.0, 0.0], [1.0, 3.0]]), torch.tensor([[2.0, 0.0], [1.0, 3.0]]))
        tensor([0.3278, 0.0000])
    """
    _check_same_shape(logits, reference_logits)
    if not temperature > 0:
        raise ValueError(f"`temperature` must be above 0, got {temperature}.")
    log_q = F.log_softmax(at_least_float32(logits) / temperature, dim=1)
    log_p = F.log_softmax(at_least_float32(reference_logits) / temperature, dim=1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1).clamp(min=0.0)


def _check_same_shape(logits: Tensor, reference_logits: Tensor) -> None:
    if logits.shape != reference_logits.shape:
        raise ValueError(
            "`logits` and `reference_logits` must have the same shape, got "
            f"{tuple(logits.shape)} and {tuple(reference_logits.shape)}."
        )


class TopOneAgreement(MeanScore):
    """Share of images on which two networks have the same top-1 prediction.

    Example:
        >>> metric = TopOneAgreement()
        >>> metric.update(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([[5.0, 0.0], [1.0, 0.0]]))
        >>> metric.compute().value
        tensor(0.5000, dtype=torch.float64)
    """

    def update(  # type: ignore[override]  # in torchmetrics each metric has its own arguments
        self, logits: Float[Tensor, "n classes"], reference_logits: Float[Tensor, "n classes"]
    ) -> None:
        """Add a batch; see :func:`top_one_agreement`."""
        self._add(top_one_agreement(logits, reference_logits))


class OutputKL(MeanScore):
    """Mean Kullback-Leibler divergence of a network's probabilities from the reference's.

    Args:
        temperature: See :func:`output_kl`.
        kwargs: Keyword arguments of :class:`torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(self, *, temperature: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = temperature

    def update(  # type: ignore[override]  # in torchmetrics each metric has its own arguments
        self, logits: Float[Tensor, "n classes"], reference_logits: Float[Tensor, "n classes"]
    ) -> None:
        """Add a batch; see :func:`output_kl`."""
        self._add(output_kl(logits, reference_logits, temperature=self.temperature))
