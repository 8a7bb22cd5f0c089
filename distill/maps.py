"""What is done to a map after it was made: another size, another scale. Explanations, losses and metrics share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Normalization = Literal["l2", "max", "sum", "min_max", "none"]

_RESIZE_MODE = {1: "linear", 2: "bilinear", 3: "trilinear"}


def normalize_maps(maps: Float[Tensor, "n *s"], how: Normalization) -> Float[Tensor, "n *s"]:
    """Scale every map by itself, whatever its neighbours in the batch are.

    Convention:
        - ``l2``: divided by its Euclidean norm. ``max``: by its largest value. ``sum``: by its total.
          ``min_max``: moved and scaled to [0, 1]. ``none``: as it is.
        - A map that is zero everywhere (``min_max``: constant) becomes exactly zero, with zero gradient.

    Args:
        maps: Maps, not negative (``min_max`` takes any sign).
        how: One of the five names above.

    Returns:
        Maps of the same shape, float32 or wider.

    Raises:
        ValueError: if ``how`` is none of the five.

    Example:
        >>> normalize_maps(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), "l2")
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    if how not in get_args(Normalization):
        raise ValueError(f"`how` must be one of {get_args(Normalization)}, got {how!r}.")
    maps = maps if maps.dtype == torch.float64 else maps.float()
    if how == "none":
        return maps
    flat = maps.flatten(1)
    if how == "min_max":
        flat = flat - flat.amin(1, keepdim=True)
        size = flat.amax(1, keepdim=True)
    elif how == "max":
        size = flat.amax(1, keepdim=True)
    elif how == "sum":
        size = flat.sum(1, keepdim=True)
    else:
        # Scaled by the largest value first: the squares of a small map would underflow.
        largest = flat.detach().amax(1, keepdim=True)
        flat = flat / torch.where(largest == 0, 1.0, largest)
        square = flat.square().sum(1, keepdim=True)
        size = torch.where(largest == 0, 0.0, torch.where(largest == 0, 1.0, square).sqrt())
    empty = size == 0
    return torch.where(empty, 0.0, flat / torch.where(empty, 1.0, size)).view_as(maps)


def resize_maps(maps: Float[Tensor, "n *s"], size: Sequence[int]) -> Float[Tensor, "n *t"]:
    """Resize maps linearly along every spatial axis (``align_corners=False``); the same size is left untouched.

    Args:
        maps: Maps with one, two or three spatial axes.
        size: The new spatial shape.

    Raises:
        ValueError: if ``size`` has another number of axes than the maps.

    Example:
        >>> resize_maps(torch.tensor([[0.0, 1.0]]), [4])
        tensor([[0.0000, 0.2500, 0.7500, 1.0000]])
    """
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    if len(size) != maps.ndim - 1 or len(size) not in _RESIZE_MODE:
        raise ValueError(
            f"`size` must have the maps' spatial axes (1 to 3), got {tuple(size)} for {tuple(maps.shape)}."
        )
    return F.interpolate(maps[:, None], size=list(size), mode=_RESIZE_MODE[len(size)], align_corners=False)[:, 0]
