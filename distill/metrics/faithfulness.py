"""Faithfulness: whether the prediction depends on the part of the image that the map shows.

The average drop of a uniform map is 0, so it must be read together with the complexity of the maps, or as part of
:class:`distill.metrics.ADCC`.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from distill.maps import at_least_float32
from distill.metrics.common import MeanScore, Measurement
from distill.metrics.map_agreement import map_pearson


def average_drop(probability: Float[Tensor, " n"], masked_probability: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    r"""Share of the probability that is lost on the masked image, :math:`\max(0, Y - O) / Y`.

    Convention:
        - Softmax probabilities, not logits, of one class per image; the same class for both images.
        - From 0 to 1, not in per cent. NaN (no score) if Y is 0 or either probability is NaN.

    Args:
        probability: Y, for the image.
        masked_probability: O, for the image masked by :func:`distill.metrics.mask_images`.

    Returns:
        One score per image; lower is better.

    References:
        Chattopadhyay et al., WACV 2018, section 4.1.

    Example:
        >>> average_drop(torch.tensor([0.8, 0.5, 0.0]), torch.tensor([0.6, 0.9, 0.1]))
        tensor([0.2500, 0.0000,    nan])
    """
    before, after = at_least_float32(probability), at_least_float32(masked_probability)
    zero = before == 0
    return torch.where(zero, torch.nan, (before - after).relu() / torch.where(zero, 1.0, before))


def increase_in_confidence(
    probability: Float[Tensor, " n"], masked_probability: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Return 1 for each image whose probability is higher on the masked image, else 0.

    Args:
        probability: Softmax probability of the class for the image.
        masked_probability: The same for the image masked by :func:`distill.metrics.mask_images`.

    Returns:
        1 or 0 per image; NaN (no score) if either probability is NaN.

    References:
        Chattopadhyay et al., WACV 2018, section 4.1.

    Example:
        >>> increase_in_confidence(torch.tensor([0.8, 0.5, 0.5]), torch.tensor([0.6, 0.9, 0.5]))
        tensor([0., 1., 0.])
    """
    before, after = at_least_float32(probability), at_least_float32(masked_probability)
    return torch.where(before.isnan() | after.isnan(), torch.nan, (after > before).to(before.dtype))


def win(
    probability: Float[Tensor, " n"],
    masked_probability: Float[Tensor, " n"],
    other_masked_probability: Float[Tensor, " n"],
    *,
    other_probability: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, " n"]:
    """Return 1 for each image whose drop is smaller than that of another method or network, else 0.

    Convention:
        - The drop is that of :func:`average_drop`. A tie is not a win; all images on which neither probability drops
          are ties, see :func:`tie`.

    Args:
        probability: Probability for the image.
        masked_probability: Probability for the masked image.
        other_masked_probability: Probability of the other method or network for the image masked by its own map.
        other_probability: Probability of the other network for the image; defaults to ``probability``.

    Returns:
        1 for a win, 0 for a tie or a loss; NaN (no score) if either drop is NaN.

    References:
        Chattopadhyay et al., WACV 2018, section 4.1.

    Example:
        >>> win(torch.tensor([0.8, 0.8, 0.8]), torch.tensor([0.6, 0.9, 0.2]), torch.tensor([0.4, 0.9, 0.4]))
        tensor([1., 0., 0.])
    """
    drop, other_drop = _drops(probability, masked_probability, other_masked_probability, other_probability)
    return torch.where(drop.isnan() | other_drop.isnan(), torch.nan, (drop < other_drop).to(drop.dtype))


def tie(
    probability: Float[Tensor, " n"],
    masked_probability: Float[Tensor, " n"],
    other_masked_probability: Float[Tensor, " n"],
    *,
    other_probability: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, " n"]:
    """Return 1 for each image on which both drops are equal, for example 0, else 0; arguments as in :func:`win`.

    Example:
        >>> tie(torch.tensor([0.8, 0.8, 0.8]), torch.tensor([0.6, 0.9, 0.2]), torch.tensor([0.4, 0.9, 0.4]))
        tensor([0., 1., 0.])
    """
    drop, other_drop = _drops(probability, masked_probability, other_masked_probability, other_probability)
    return torch.where(drop.isnan() | other_drop.isnan(), torch.nan, (drop == other_drop).to(drop.dtype))


def _drops(
    probability: Tensor, masked_probability: Tensor, other_masked_probability: Tensor, other_probability: Tensor | None
) -> tuple[Tensor, Tensor]:
    if other_probability is None:
        other_probability = probability
    return average_drop(probability, masked_probability), average_drop(other_probability, other_masked_probability)


class AverageDrop(MeanScore):
    """Mean share of the probability that is lost on the masked images."""

    higher_is_better = False

    def update(  # type: ignore[override]  # in torchmetrics each metric has its own arguments
        self, probability: Float[Tensor, " n"], masked_probability: Float[Tensor, " n"]
    ) -> None:
        """Add a batch; see :func:`average_drop`."""
        self._add(average_drop(probability, masked_probability))


class IncreaseInConfidence(MeanScore):
    """Share of images whose probability is higher on the masked image."""

    def update(  # type: ignore[override]  # in torchmetrics each metric has its own arguments
        self, probability: Float[Tensor, " n"], masked_probability: Float[Tensor, " n"]
    ) -> None:
        """Add a batch; see :func:`increase_in_confidence`."""
        self._add(increase_in_confidence(probability, masked_probability))


class WinRate(MeanScore):
    """Share of images whose drop is smaller than that of another method or network; a tie is not a win."""

    def update(  # type: ignore[override]  # in torchmetrics each metric has its own arguments
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
    """Pearson correlation of the map of an image and the map of the masked image, scaled to [0, 1]: (1 + r) / 2.

    Convention:
        - NaN (no score) if either map is constant.

    Args:
        maps: Maps of the images.
        maps_of_masked: Maps of the images masked by :func:`distill.metrics.mask_images`, for the same class and in the
            same size.

    Returns:
        One score per image.

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
    """Mean coherency; images with a constant map are excluded and counted.

    Example:
        >>> import torch
        >>> metric = Coherency()
        >>> metric.update(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 2.0]]))
        >>> metric.compute().value
        tensor(0.7500, dtype=torch.float64)
    """

    def update(  # type: ignore[override]  # in torchmetrics each metric has its own arguments
        self, maps: Float[Tensor, "n *s"], maps_of_masked: Float[Tensor, "n *s"]
    ) -> None:
        """Add a batch; see :func:`coherency`."""
        self._add(coherency(maps, maps_of_masked))


def adcc(
    coherency: Float[Tensor, "*n"], complexity: Float[Tensor, "*n"], drop: Float[Tensor, "*n"]
) -> Float[Tensor, "*n"]:
    r"""Harmonic mean of coherency, 1 - complexity and 1 - drop.

    Convention:
        - All three arguments are from 0 to 1; the drop is not in per cent. The result is 0 if one of the parts is 0;
          there is no division by it.
        - NaN if one of the three is NaN.

    Args:
        coherency: See :func:`distill.metrics.coherency`.
        complexity: See :func:`distill.metrics.complexity`.
        drop: See :func:`distill.metrics.average_drop`.

    Returns:
        One value per triple, from 0 to 1.

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
        - Computed from the three means; not the mean of the ADCC of the images. An image for which one of the three is
          NaN is excluded and counted.

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
        """Add the three scores of each image of a batch."""
        parts = torch.stack([coherency.double(), complexity.double(), drop.double()])
        missing = parts.isnan().any(0)
        self.totals += torch.where(missing, 0.0, parts).sum(1)
        self.n += (~missing).sum()
        self.excluded += missing.sum()

    def compute(self) -> Measurement:
        """Return the ADCC over all batches and processes."""
        return Measurement(adcc(*(self.totals / self.n).unbind()), self.n, self.excluded)
