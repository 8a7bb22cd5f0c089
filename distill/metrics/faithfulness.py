"""Faithfulness: whether the part of an image that a map shows decides the prediction.

Average drop alone is easily gamed: an all-ones map loses nothing. Read it beside the complexity of the maps, or as part
of :class:`distill.metrics.ADCC`.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from distill.metrics.base import MeanScore, Measurement, wide
from distill.metrics.map_agreement import map_pearson


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


def coherency(maps: Float[Tensor, "n *s"], maps_of_masked: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    """Pearson's correlation of a map and the map of what it leaves of its image, brought to [0, 1]: (1 + r) / 2.

    Convention:
        - NaN (no score) where either map is the same everywhere.

    Args:
        maps: Of the images.
        maps_of_masked: Of :func:`distill.metrics.mask_images` of them, for the same class and in the same size.

    Returns:
        A score for every image.

    Raises:
        ValueError: if the sizes differ.

    References:
        Poppi et al., "Revisiting the Evaluation of Class Activation Mapping for Explainability", CVPR workshops 2021.

    Example:
        >>> import torch
        >>> coherency(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 2.0]]))
        tensor([0.7500])
    """
    return (1 + map_pearson(maps, maps_of_masked)) / 2


class Coherency(MeanScore):
    """Mean coherency; images of which a map is the same everywhere are excluded and counted.

    Example:
        >>> import torch
        >>> metric = Coherency()
        >>> metric.update(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 2.0]]))
        >>> metric.compute().value
        tensor(0.7500, dtype=torch.float64)
    """

    def update(  # type: ignore[override]  # torchmetrics: every metric has arguments of its own
        self, maps: Float[Tensor, "n *s"], maps_of_masked: Float[Tensor, "n *s"]
    ) -> None:
        """Add a batch; see :func:`coherency`."""
        self._add(coherency(maps, maps_of_masked))


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
