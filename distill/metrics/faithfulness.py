"""Faithfulness: whether the part of an image that a map shows is what decides the answer.

Average drop alone is easily tricked: a map that is bright everywhere loses nothing. Read it beside the complexity of
the maps, or as part of :class:`distill.metrics.ADCC`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from distill.metrics.inputs import wide
from distill.metrics.mean_score import MeanScore


def average_drop(probability: Float[Tensor, " n"], masked_probability: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    r"""Share of the probability that is lost when only what the map shows is left, :math:`\max(0, Y - O) / Y`.

    Convention:
        - Softmax probabilities of one class an image, the same before and after; never logits.
        - From 0 to 1, not per cent. NaN (no score) where Y is 0 or either is NaN.

    Args:
        probability: Y, on the image.
        masked_probability: O, on :func:`distill.metrics.mask_images` of it.

    Returns:
        A score for every image; lower is better.

    References:
        Chattopadhyay et al., WACV 2018, section 4.1.

    Example:
        >>> average_drop(torch.tensor([0.8, 0.5, 0.0]), torch.tensor([0.6, 0.9, 0.1]))
        tensor([0.2500, 0.0000,    nan])
    """
    before, after = wide(probability), wide(masked_probability)
    none = before == 0
    return torch.where(none, torch.nan, (before - after).relu() / torch.where(none, 1.0, before))


def increase_in_confidence(
    probability: Float[Tensor, " n"], masked_probability: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Tell for every image whether the probability rises when only what the map shows is left.

    Args:
        probability: On the image.
        masked_probability: On :func:`distill.metrics.mask_images` of it.

    Returns:
        1 where it rises, 0 where not; NaN (no score) where either is NaN.

    References:
        Chattopadhyay et al., WACV 2018, section 4.1.

    Example:
        >>> increase_in_confidence(torch.tensor([0.8, 0.5, 0.5]), torch.tensor([0.6, 0.9, 0.5]))
        tensor([0., 1., 0.])
    """
    before, after = wide(probability), wide(masked_probability)
    return torch.where(before.isnan() | after.isnan(), torch.nan, (after > before).to(before.dtype))


def win(
    probability: Float[Tensor, " n"],
    masked_probability: Float[Tensor, " n"],
    other_masked_probability: Float[Tensor, " n"],
    *,
    other_probability: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, " n"]:
    """Tell for every image whether the drop is smaller than that of another method or network.

    Convention:
        - Drops as in :func:`average_drop`. A tie is no win: see :func:`tie` for how many there are, since all images
          on which neither drops are ties.

    Args:
        probability: On the image.
        masked_probability: On what is left of it.
        other_masked_probability: Of the other, on what the other leaves of it.
        other_probability: Of the other on the image, where it is another network; the same if left out.

    Returns:
        1 for a win, 0 for a tie or a loss; NaN (no score) where either has no drop.

    References:
        Chattopadhyay et al., WACV 2018, section 4.1.

    Example:
        >>> win(torch.tensor([0.8, 0.8, 0.8]), torch.tensor([0.6, 0.9, 0.2]), torch.tensor([0.4, 0.9, 0.4]))
        tensor([1., 0., 0.])
    """
    own, other = _drops(probability, masked_probability, other_masked_probability, other_probability)
    return torch.where(own.isnan() | other.isnan(), torch.nan, (own < other).to(own.dtype))


def tie(
    probability: Float[Tensor, " n"],
    masked_probability: Float[Tensor, " n"],
    other_masked_probability: Float[Tensor, " n"],
    *,
    other_probability: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, " n"]:
    """Tell for every image whether both drop equally, for example not at all; arguments as in :func:`win`.

    Example:
        >>> tie(torch.tensor([0.8, 0.8, 0.8]), torch.tensor([0.6, 0.9, 0.2]), torch.tensor([0.4, 0.9, 0.4]))
        tensor([0., 1., 0.])
    """
    own, other = _drops(probability, masked_probability, other_masked_probability, other_probability)
    return torch.where(own.isnan() | other.isnan(), torch.nan, (own == other).to(own.dtype))


def _drops(
    probability: Tensor, masked_probability: Tensor, other_masked_probability: Tensor, other_probability: Tensor | None
) -> tuple[Tensor, Tensor]:
    other = probability if other_probability is None else other_probability
    return average_drop(probability, masked_probability), average_drop(other, other_masked_probability)


class AverageDrop(MeanScore):
    """Mean share of the probability that is lost when only what the maps show is left."""

    higher_is_better = False

    def update(  # type: ignore[override]  # torchmetrics: every metric has arguments of its own
        self, probability: Float[Tensor, " n"], masked_probability: Float[Tensor, " n"]
    ) -> None:
        """Add a batch; see :func:`average_drop`."""
        self._add(average_drop(probability, masked_probability))


class IncreaseInConfidence(MeanScore):
    """Share of images on which the probability rises when only what the maps show is left."""

    def update(  # type: ignore[override]  # torchmetrics: every metric has arguments of its own
        self, probability: Float[Tensor, " n"], masked_probability: Float[Tensor, " n"]
    ) -> None:
        """Add a batch; see :func:`increase_in_confidence`."""
        self._add(increase_in_confidence(probability, masked_probability))


class WinRate(MeanScore):
    """Share of images on which the drop is smaller than that of another method or network; a tie is no win."""

    def update(  # type: ignore[override]  # torchmetrics: every metric has arguments of its own
        self,
        probability: Float[Tensor, " n"],
        masked_probability: Float[Tensor, " n"],
        other_masked_probability: Float[Tensor, " n"],
        *,
        other_probability: Float[Tensor, " n"] | None = None,
    ) -> None:
        """Add a batch; see :func:`win`."""
        self._add(win(probability, masked_probability, other_masked_probability, other_probability=other_probability))
