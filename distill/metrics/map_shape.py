"""Shape of maps (sparseness, entropy, complexity), and rates of zero, NaN and constant maps."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from distill.maps import normalize_maps
from distill.metrics.common import MeanScore, is_empty, sort_values


def gini(maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    r"""Gini index of the pixels, :math:`\sum_i (2i - P - 1) a_{(i)} / (P \sum_i a_{(i)})` in ascending order.

    Convention:
        - Negative values are set to 0. Maps are not resized; compare only maps of the same size.
        - NaN (no score) if a map is zero everywhere.

    Args:
        maps: Maps in any scale.

    Returns:
        One score per image: 0 for a uniform map, 1 - 1/P for a single bright pixel among P.

    References:
        Hurley & Rickard, "Comparing Measures of Sparsity", IEEE Transactions on Information Theory, 2009.

    Example:
        >>> gini(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 7.0, 0.0, 0.0]]))
        tensor([0.0000, 0.7500])
    """
    ordered = sort_values(normalize_maps(maps.relu(), "max").flatten(1))
    pixels = ordered.shape[1]
    weights = torch.arange(1 - pixels, pixels, 2, dtype=ordered.dtype, device=maps.device) / pixels
    total = ordered.sum(1)
    index = (ordered * weights).sum(1) / torch.where(total == 0, 1.0, total)
    return torch.where(total == 0, torch.nan, index)


def entropy(maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    r"""Entropy of a map as a distribution, divided by that of a uniform map: :math:`-\sum_i p_i \log p_i / \log P`.

    Convention:
        - Negative values are set to 0. Maps are not resized.
        - NaN (no score) if a map is zero everywhere or has a single pixel.

    Args:
        maps: Maps in any scale.

    Returns:
        One score per image: 0 for a single bright pixel, 1 for a uniform map.

    Example:
        >>> entropy(torch.tensor([[2.0, 2.0, 0.0, 0.0], [3.0, 3.0, 3.0, 3.0]]))
        tensor([0.5000, 1.0000])
    """
    p = normalize_maps(maps.relu(), "sum").flatten(1)
    largest = math.log(p.shape[1])
    nats = torch.special.entr(p).sum(1)
    return torch.where(is_empty(p), torch.nan, nats / largest if largest else torch.nan)


def complexity(maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    """Mean of a map divided by its maximum: the share of the image that it shows.

    Convention:
        - Negative values are set to 0. NaN (no score) if a map is zero everywhere.

    Args:
        maps: Maps in any scale. For the complexity of the masks of :func:`distill.metrics.mask_images`, resize the maps
            to the images first.

    Returns:
        One score per image: 1/P for a single bright pixel among P, 1 for a uniform map.

    References:
        Poppi et al., "Revisiting the Evaluation of Class Activation Mapping for Explainability", CVPR workshops 2021.

    Example:
        >>> complexity(torch.tensor([[4.0, 2.0, 2.0, 0.0], [3.0, 3.0, 3.0, 3.0]]))
        tensor([0.5000, 1.0000])
    """
    heat = normalize_maps(maps.relu(), "max").flatten(1)
    return torch.where(is_empty(heat), torch.nan, heat.mean(1))


class Gini(MeanScore):
    """Mean Gini index of maps; empty ones are excluded and counted."""

    def update(self, maps: Float[Tensor, "n *s"]) -> None:
        """Add a batch; see :func:`gini`."""
        self._add(gini(maps))


class Entropy(MeanScore):
    """Mean entropy of maps; empty ones are excluded and counted."""

    higher_is_better = False

    def update(self, maps: Float[Tensor, "n *s"]) -> None:
        """Add a batch; see :func:`entropy`."""
        self._add(entropy(maps))


class Complexity(MeanScore):
    """Mean complexity of maps; empty ones are excluded and counted."""

    higher_is_better = False

    def update(self, maps: Float[Tensor, "n *s"]) -> None:
        """Add a batch; see :func:`complexity`."""
        self._add(complexity(maps))


def zero_map(maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    """Return 1 for each map that is zero everywhere, else 0.

    Example:
        >>> import torch
        >>> zero_map(torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, torch.nan]]))
        tensor([1., 0., 0., 0.])
    """
    return is_empty(maps).float()


def nan_map(maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    """Return 1 for each map with a NaN or infinite value, else 0.

    Example:
        >>> import torch
        >>> nan_map(torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, torch.nan]]))
        tensor([0., 0., 0., 1.])
    """
    return (~maps.isfinite()).flatten(1).any(1).float()


def constant_map(maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    """Return 1 for each map with the same finite value everywhere, other than zero, else 0.

    Example:
        >>> import torch
        >>> constant_map(torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, torch.nan]]))
        tensor([0., 0., 1., 0.])
    """
    low, high = maps.flatten(1).aminmax(dim=1)
    return ((low == high) & (low != 0) & low.isfinite()).float()


class ZeroMaps(MeanScore):
    """Share of maps that are zero everywhere."""

    higher_is_better = False

    def update(self, maps: Float[Tensor, "n *s"]) -> None:
        """Add a batch; see :func:`zero_map`."""
        self._add(zero_map(maps))


class NaNMaps(MeanScore):
    """Share of maps with a NaN or infinite value."""

    higher_is_better = False

    def update(self, maps: Float[Tensor, "n *s"]) -> None:
        """Add a batch; see :func:`nan_map`."""
        self._add(nan_map(maps))


class ConstantMaps(MeanScore):
    """Share of maps with the same finite value everywhere, other than zero."""

    higher_is_better = False

    def update(self, maps: Float[Tensor, "n *s"]) -> None:
        """Add a batch; see :func:`constant_map`."""
        self._add(constant_map(maps))
