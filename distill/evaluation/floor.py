"""How alike maps are that have nothing to do with each other: what only a common bias makes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from numpy import ndarray
from torch import Tensor

from distill.maps import resize_maps
from distill.metrics import map_cosine


def cosine_floor(
    maps: Float[Tensor, "n *s"],
    reference_maps: Float[Tensor, "n *t"],
    others: Int64[ndarray, " n"],
    *,
    size: Sequence[int],
    batch_size: int,
) -> Float[Tensor, " n"]:
    """Compare every map with the reference's map of another image.

    Args:
        maps: Raw, of the network that is judged.
        reference_maps: Raw, of the reference, of the same images.
        others: Position of that other image, for every image; NaN (no score) where it is the image itself.
        size: That of the images; both are brought to it.
        batch_size: Maps of that size at a time; bounds the memory.
    """
    partner = torch.as_tensor(others, device=maps.device)
    scores = torch.cat(
        [
            map_cosine(resize_maps(maps[index], size), resize_maps(reference_maps[partner[index]], size))
            for index in torch.arange(len(maps), device=maps.device).split(batch_size)
        ]
    )
    return torch.where(partner == torch.arange(len(maps), device=maps.device), torch.nan, scores)
