"""Coherency: whether the map of what a map shows is that map again."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from distill.metrics.correlation import map_pearson
from distill.metrics.mean_score import MeanScore


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
