"""Agreement of the maps that two networks give for the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from distill.maps import normalize_maps
from distill.metrics.correlation import map_pearson, map_spearman
from distill.metrics.inputs import is_empty, same_size
from distill.metrics.mean_score import MeanScore
from distill.metrics.overlap import map_jensen_shannon, map_top_iou
from distill.metrics.structure import map_ssim


def map_cosine(maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    r"""Cosine of the angle between two maps of an image, :math:`\langle a, b\rangle / (\|a\| \|b\|)`.

    Convention:
        - Maps are not negative, so the cosine lies in [0, 1]; their scale does not matter.
        - NaN (no score) where either map is zero everywhere: there is nothing to compare.
        - Two maps of any kind share a centre bias, so unrelated ones are far above 0.

    Args:
        maps: Of the network that is judged.
        reference_maps: Of the network that it is compared with, in the same size; see
            :func:`distill.maps.resize_maps`.

    Returns:
        A score for every image.

    Raises:
        ValueError: if the sizes differ.

    Example:
        >>> map_cosine(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[4.0, 3.0], [1.0, 1.0]]))
        tensor([0.9600,    nan])
    """
    same_size(maps, reference_maps)
    one, other = normalize_maps(maps, "l2").flatten(1), normalize_maps(reference_maps, "l2").flatten(1)
    return torch.where(is_empty(one) | is_empty(other), torch.nan, (one * other).sum(1).clamp(max=1.0))


#: Measure by name.
MEASURES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": map_cosine,
    "pearson": map_pearson,
    "spearman": map_spearman,
    "ssim": map_ssim,
    "top_iou": map_top_iou,
    "jensen_shannon": map_jensen_shannon,
}


class MapAgreement(MeanScore):
    """Mean agreement of two networks' maps; images on which a map is empty are excluded and counted.

    Args:
        measure: One of :data:`MEASURES`: ``cosine``, ``pearson``, ``spearman``, ``ssim``, ``top_iou`` (of the highest
            fifth of the pixels), or ``jensen_shannon``, the only one of which less is better.
        kwargs: What every torchmetrics metric takes.

    Raises:
        ValueError: if there is no such measure.

    Example:
        >>> metric = MapAgreement(measure="cosine")
        >>> metric.update(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[4.0, 3.0], [1.0, 1.0]]))
        >>> metric.compute()
        Measurement(value=tensor(0.9600, dtype=torch.float64), n=tensor(1), excluded=tensor(1))
    """

    def __init__(self, *, measure: str = "cosine", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if measure not in MEASURES:
            raise ValueError(f"`measure` must be one of {', '.join(MEASURES)}, got {measure!r}.")
        self.measure = measure

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]  # a divergence is better lower, the others higher
        """Tell which direction is better."""
        return self.measure != "jensen_shannon"

    def update(  # type: ignore[override]  # torchmetrics: every metric has arguments of its own
        self, maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"]
    ) -> None:
        """Add a batch of maps of equal size."""
        self._add(MEASURES[self.measure](maps, reference_maps))
