"""Overlap of two maps of an image, of their highest pixels and of their mass."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill.maps import normalize_maps
from distill.metrics.inputs import is_empty, same_size


def map_top_iou(
    maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"], *, share: float = 0.2
) -> Float[Tensor, " n"]:
    """Pixels that are among the highest of both maps, over those that are among the highest of either.

    Convention:
        - As many pixels are taken of both: ``share`` of them, rounded to the nearest number, at least one.
        - Of equal pixels the first in row-major order are taken (a stable descending order). A map with fewer pixels
          above zero than are taken is filled up in this way.
        - Two unrelated orders overlap by share / (2 - share): 0.11 at 0.2.
        - NaN (no score) where either map is zero everywhere.

    Args:
        maps: Of the network that is judged, not negative.
        reference_maps: Of the network that it is compared with, in the same size.
        share: Of the pixels, above 0 and at most 1.

    Returns:
        A score from 0 to 1 for every image.

    Raises:
        ValueError: if the sizes differ or ``share`` is out of its range.

    Example:
        >>> map_top_iou(torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.tensor([[1.0, 9.0, 8.0, 0.0]]), share=0.5)
        tensor([0.3333])
    """
    same_size(maps, reference_maps)
    if not 0 < share <= 1:
        raise ValueError(f"`share` must be above 0 and at most 1, got {share}.")
    one, other = normalize_maps(maps, "max").flatten(1), normalize_maps(reference_maps, "max").flatten(1)
    count = max(int(share * one.shape[1] + 0.5), 1)
    common = (_highest(one, count) & _highest(other, count)).sum(1).to(one.dtype)
    no_score = is_empty(one) | is_empty(other) | one.isnan().any(1) | other.isnan().any(1)
    return torch.where(no_score, torch.nan, common / (2 * count - common))


def map_jensen_shannon(maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    r"""Jensen-Shannon divergence of two maps as distributions over the pixels.

    :math:`(\mathrm{KL}(p\,\|\,m) + \mathrm{KL}(q\,\|\,m)) / 2` with :math:`m = (p + q) / 2`.

    Convention:
        - In bits: 0 for maps that differ by a factor only, 1 for maps without a pixel in common.
        - NaN (no score) where either map is zero everywhere.

    Args:
        maps: Of the network that is judged, not negative.
        reference_maps: Of the network that it is compared with, in the same size.

    Returns:
        A score from 0 to 1 for every image; lower is more alike.

    Raises:
        ValueError: if the sizes differ.

    References:
        Lin, "Divergence Measures Based on the Shannon Entropy", IEEE Transactions on Information Theory, 1991.

    Example:
        >>> map_jensen_shannon(torch.tensor([[1.0, 1.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 5.0]]))
        tensor([0.3113, 1.0000])
    """
    same_size(maps, reference_maps)
    p, q = normalize_maps(maps, "sum").flatten(1), normalize_maps(reference_maps, "sum").flatten(1)
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return torch.where(is_empty(p) | is_empty(q), torch.nan, divergence.clamp(0.0, 1.0))


def _highest(maps: Float[Tensor, "n p"], count: int) -> Bool[Tensor, "n p"]:
    """Tell which pixels come first in the stable descending order, without sorting them."""
    least = maps.topk(count, 1, sorted=False).values.amin(1, keepdim=True)
    above, equal = maps > least, maps == least
    wanted = count - above.sum(1, keepdim=True)
    return above | (equal & (equal.cumsum(1) <= wanted))


def _relative_entropy(p: Tensor, middle: Tensor) -> Tensor:
    """Give KL(p || middle) in bits; 0 log 0 is 0."""
    nothing = p == 0
    ratio = torch.where(nothing, 1.0, p) / torch.where(nothing, 1.0, middle)
    return torch.where(nothing, 0.0, p * ratio.log2()).sum(1)
