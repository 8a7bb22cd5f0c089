"""Operations on explanation maps: convert to float32, normalise, resize. Used by explanations, losses and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Normalization = Literal["l2", "max", "sum", "min_max", "none"]

_RESIZE_MODE = {1: "linear", 2: "bilinear", 3: "trilinear"}


def at_least_float32(tensor: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Convert half precision to float32; return float32 and float64 tensors unchanged.

    Example:
        >>> at_least_float32(torch.ones(1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def normalize_maps(maps: Float[Tensor, "n *s"], how: Normalization) -> Float[Tensor, "n *s"]:
    """Normalise each map independently of the other maps in the batch.

    Convention:
        - ``l2`` divides by the Euclidean norm, ``max`` by the largest value and ``sum`` by the sum of the values.
          ``min_max`` shifts and scales the values to [0, 1]. ``none`` leaves them unchanged.
        - A map that is zero everywhere (``min_max``: constant) becomes exactly zero, with zero gradient.

    Args:
        maps: Maps with values of at least 0 (``min_max``: any values).
        how: One of ``l2``, ``max``, ``sum``, ``min_max`` and ``none``.

    Returns:
        Maps of the same shape, in float32 or float64.

    Raises:
        ValueError: If ``how`` is not one of the five names.

    Example:
        >>> normalize_maps(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), "l2")
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    if how not in get_args(Normalization):
        raise ValueError(f"`how` must be one of {get_args(Normalization)}, got {how!r}.")
    maps = at_least_float32(maps)
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
        # Divide by the largest value first: the squares of a map of small values would underflow.
        largest = flat.detach().amax(1, keepdim=True)
        flat = flat / torch.where(largest == 0, 1.0, largest)
        square = flat.square().sum(1, keepdim=True)
        size = torch.where(largest == 0, 0.0, torch.where(largest == 0, 1.0, square).sqrt())
    empty = size == 0
    return torch.where(empty, 0.0, flat / torch.where(empty, 1.0, size)).view_as(maps)


def resize_maps(maps: Float[Tensor, "n *s"], size: Sequence[int]) -> Float[Tensor, "n *t"]:
    """Resize maps by linear interpolation along every spatial axis (``align_corners=False``).

    Args:
        maps: Maps with one, two or three spatial axes.
        size: The new spatial shape.

    Returns:
        The resized maps; the same tensor if the maps already have this size.

    Raises:
        ValueError: If ``size`` and the maps have different numbers of spatial axes.

    Example:
        >>> resize_maps(torch.tensor([[0.0, 1.0]]), [4])
        tensor([[0.0000, 0.2500, 0.7500, 1.0000]])
    """
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    if len(size) != maps.ndim - 1 or len(size) not in _RESIZE_MODE:
        raise ValueError(
            f"`size` must have one number for each of the maps' 1 to 3 spatial axes, got {tuple(size)} for maps of "
            f"shape {tuple(maps.shape)}."
        )
    return F.interpolate(maps[:, None], size=list(size), mode=_RESIZE_MODE[len(size)], align_corners=False)[:, 0]
