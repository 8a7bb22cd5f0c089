"""Localisation: whether a map lies on the object."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from distill.metrics.inputs import is_empty, shown
from distill.metrics.mean_score import MeanScore


def energy_in_mask(maps: Float[Tensor, "n i j"], masks: Shaped[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    r"""Share of a map that lies on the object, :math:`\sum_{p \in M} a_p / \sum_p a_p` (energy pointing game).

    Convention:
        - What is negative in a map counts as 0; then it is resized to the mask (bilinear, ``align_corners=False``).
        - All instances of an image count as one object: their union.
        - NaN (no score) where the mask is empty or the map is zero everywhere; never a hit.

    Args:
        maps: In any size and scale.
        masks: 0 or false for background, anything else for an instance.

    Returns:
        A score from 0 to 1 for every image. The share of the image that the object covers is what a map without
        any preference would get.

    References:
        Wang et al., "Score-CAM", CVPR workshops 2020, section 4.3.

    Example:
        >>> maps = torch.tensor([[[1.0, 3.0]], [[0.0, 0.0]], [[1.0, 1.0]]])
        >>> energy_in_mask(maps, torch.tensor([[[0, 2]], [[0, 1]], [[0, 0]]]))
        tensor([0.7500,    nan,    nan])
    """
    inside = (masks != 0).flatten(1)
    heat = shown(maps, masks.shape[1:], "max").flatten(1)
    total = heat.sum(1)
    excluded = (total == 0) | ~inside.any(1)
    share = torch.where(inside, heat, 0.0).sum(1) / torch.where(total == 0, 1.0, total)
    return torch.where(excluded, torch.nan, share)


def pointing_game(
    maps: Float[Tensor, "n i j"], masks: Shaped[Tensor, "n h w"], *, tolerance: float = 0
) -> Float[Tensor, " n"]:
    """Tell for every image whether its map has the maximum on the object.

    Convention:
        - A map is made as in :func:`energy_in_mask`; of equal maxima the first in row-major order points.
        - All instances of an image count as one object.
        - NaN (no score) where the mask is empty or the map is zero everywhere; never a hit.

    Args:
        maps: In any size and scale.
        masks: 0 or false for background, anything else for an instance.
        tolerance: How far from the object's nearest pixel the maximum may lie, in pixels of the mask, Euclidean;
            not negative. Zhang et al. use 15 on images of VOC and COCO.

    Returns:
        1 for a hit, 0 for a miss.

    Raises:
        ValueError: if ``tolerance`` is negative.

    References:
        Zhang et al., "Top-Down Neural Attention by Excitation Backprop", IJCV 2018, section 4.1.

    Example:
        >>> maps = torch.tensor([[[1.0, 3.0, 0.0]], [[1.0, 3.0, 0.0]], [[1.0, 3.0, 0.0]]])
        >>> masks = torch.tensor([[[0, 2, 0]], [[1, 0, 0]], [[0, 0, 0]]])
        >>> pointing_game(maps, masks), pointing_game(maps, masks, tolerance=1)
        (tensor([1., 0., nan]), tensor([1., 1., nan]))
    """
    if not tolerance >= 0:
        raise ValueError(f"`tolerance` must not be negative, got {tolerance}.")
    height, width = masks.shape[1:]
    inside = masks != 0
    heat = shown(maps, (height, width), "max")
    highest = heat.flatten(1).argmax(1)
    rows = torch.arange(height, device=maps.device) - highest[:, None] // width
    columns = torch.arange(width, device=maps.device) - highest[:, None] % width
    near = rows.square()[:, :, None] + columns.square()[:, None, :] <= tolerance**2
    hit = (inside & near).flatten(1).any(1).to(heat.dtype)
    excluded = is_empty(heat) | heat.isnan().flatten(1).any(1) | ~inside.flatten(1).any(1)
    return torch.where(excluded, torch.nan, hit)


class EnergyPointingGame(MeanScore):
    """Mean share of a map that lies on the object; images without an object or without a map are excluded and counted.

    Example:
        >>> metric = EnergyPointingGame()
        >>> metric.update(torch.tensor([[[1.0, 3.0]], [[0.0, 0.0]]]), torch.tensor([[[0, 1]], [[0, 1]]]))
        >>> metric.compute()
        Measurement(value=tensor(0.7500, dtype=torch.float64), n=tensor(1), excluded=tensor(1))
    """

    def update(  # type: ignore[override]  # torchmetrics: every metric has arguments of its own
        self, maps: Float[Tensor, "n i j"], masks: Shaped[Tensor, "n h w"]
    ) -> None:
        """Add a batch; see :func:`energy_in_mask`, and :func:`distill.metrics.boxes_to_masks` for boxes."""
        self._add(energy_in_mask(maps, masks))


class PointingGame(MeanScore):
    """Share of images whose map has its maximum on the object; those without either are excluded and counted.

    Args:
        tolerance: See :func:`pointing_game`.
        kwargs: What every torchmetrics metric takes.
    """

    def __init__(self, *, tolerance: float = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tolerance = tolerance

    def update(  # type: ignore[override]  # torchmetrics: every metric has arguments of its own
        self, maps: Float[Tensor, "n i j"], masks: Shaped[Tensor, "n h w"]
    ) -> None:
        """Add a batch; see :func:`pointing_game`."""
        self._add(pointing_game(maps, masks, tolerance=self.tolerance))
