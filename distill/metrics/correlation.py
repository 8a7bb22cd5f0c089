"""Correlation of two maps of an image, of their values and of their values' ranks."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from distill.maps import normalize_maps
from distill.metrics.inputs import is_empty, same_size


def map_pearson(maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    r"""Pearson's correlation over the pixels, :math:`\cos(a - \bar a, b - \bar b)`.

    Convention:
        - From -1 to 1; neither scale nor shift of a map matters.
        - NaN (no score) where either map is the same everywhere, zero or not.

    Args:
        maps: Of the network that is judged; of any sign.
        reference_maps: Of the network that it is compared with, in the same size.

    Returns:
        A score for every image.

    Raises:
        ValueError: if the sizes differ.

    Example:
        >>> one = torch.tensor([[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]])
        >>> map_pearson(one, torch.tensor([[1.0, 3.0, 2.0], [1.0, 0.0, 0.0]]))
        tensor([0.5000,    nan])
    """
    same_size(maps, reference_maps)
    # On [0, 1]: what is constant becomes zero exactly, and squares of small maps do not underflow.
    one, other = normalize_maps(maps, "min_max").flatten(1), normalize_maps(reference_maps, "min_max").flatten(1)
    constant = is_empty(one) | is_empty(other)
    one, other = one - one.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
    lengths = (one.square().sum(1) * other.square().sum(1)).sqrt()
    correlation = (one * other).sum(1) / torch.where(constant, 1.0, lengths)
    return torch.where(constant, torch.nan, correlation.clamp(-1.0, 1.0))


def map_spearman(maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    """Spearman's correlation: Pearson's of the pixels' ranks.

    Convention:
        - Equal pixels share the mean of their ranks.
        - NaN (no score) where either map is the same everywhere, zero or not.

    Args:
        maps: Of the network that is judged; of any sign.
        reference_maps: Of the network that it is compared with, in the same size.

    Returns:
        A score for every image, from -1 to 1.

    Raises:
        ValueError: if the sizes differ.

    References:
        Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3 (rank correlation of maps).

    Example:
        >>> map_spearman(torch.tensor([[1.0, 2.0, 9.0, 9.0]]), torch.tensor([[0.1, 0.2, 0.3, 0.4]]))
        tensor([0.9487])
    """
    same_size(maps, reference_maps)
    return map_pearson(average_ranks(maps), average_ranks(reference_maps))


def average_ranks(maps: Float[Tensor, "n *s"]) -> Float[Tensor, "n p"]:
    """Rank of every pixel in its own map from 0, flattened; equal ones share the mean. NaN in a map with any NaN.

    Example:
        >>> average_ranks(torch.tensor([[5.0, 1.0, 5.0, 7.0]]))
        tensor([[1.5000, 0.0000, 1.5000, 3.0000]])
    """
    ordered, pixels = maps.flatten(1).sort(1)
    place = torch.arange(ordered.shape[1], device=maps.device).expand_as(ordered)
    differs = ordered[:, 1:] != ordered[:, :-1]
    edge = torch.ones_like(differs[:, :1])
    first = torch.where(torch.cat([edge, differs], 1), place, 0).cummax(1).values
    last = torch.where(torch.cat([differs, edge], 1), place, place.shape[1]).flip(1).cummin(1).values.flip(1)
    shared = (first + last).to(torch.promote_types(maps.dtype, torch.float32)) / 2
    ranks = torch.empty_like(shared).scatter_(1, pixels, shared)
    return torch.where(ordered.isnan().any(1, keepdim=True), torch.nan, ranks)
