"""What the metrics of this room do to their inputs before they measure."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor

from distill.maps import Normalization, normalize_maps, resize_maps


def wide(tensor: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Give float32 or wider, whatever the precision of the pass was."""
    return tensor if tensor.dtype.itemsize == 8 else tensor.float()


def same_size(maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *t"]) -> None:
    """Refuse maps that cannot be compared pixel by pixel."""
    if maps.shape != reference_maps.shape:
        raise ValueError(
            f"maps must have the same size, got {tuple(maps.shape)} and {tuple(reference_maps.shape)}; "
            "resize both to the images' size first."
        )


def shown(maps: Float[Tensor, "n *s"], size: Sequence[int], normalize: Normalization) -> Float[Tensor, "n *t"]:
    """Bring raw maps to the images' size: relu, linear (``align_corners=False``), then normalised, each by itself."""
    # Divided by the maximum first: weights of the interpolation times a very small map would underflow.
    return normalize_maps(resize_maps(normalize_maps(maps.relu(), "max"), size), normalize)


def is_empty(maps: Float[Tensor, "n *s"]) -> Bool[Tensor, " n"]:
    """Tell for every map whether it is zero everywhere."""
    return (maps == 0).flatten(1).all(1)
