"""Localisation: whether a map lies on the object."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Num, Shaped
from torch import Tensor

from distill.maps import normalize_maps, resize_maps
from distill.metrics.mean_score import MeanScore


def boxes_to_masks(boxes: Num[Tensor, "n m 4"], size: Sequence[int]) -> Bool[Tensor, "n h w"]:
    """Fill the boxes of every image: true where a pixel lies in at least one.

    Convention:
        - Boxes are (x0, y0, x1, y1) in pixels, half open. One without area, such as padding by zeros, fills nothing.

    Args:
        boxes: As many an image as the one with most has.
        size: Height and width.

    Example:
        >>> boxes_to_masks(torch.tensor([[[1, 0, 3, 1], [0, 0, 0, 0]]]), (2, 4)).int()
        tensor([[[0, 1, 1, 0],
                 [0, 0, 0, 0]]], dtype=torch.int32)
    """
    rows = torch.arange(size[0], device=boxes.device)
    columns = torch.arange(size[1], device=boxes.device)
    x0, y0, x1, y1 = boxes[..., None].unbind(-2)
    in_rows = (rows >= y0) & (rows < y1)
    in_columns = (columns >= x0) & (columns < x1)
    return (in_rows[..., :, None] & in_columns[..., None, :]).any(1)


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
    maps = resize_maps(normalize_maps(maps.relu(), "max"), masks.shape[1:]).flatten(1)
    total = maps.sum(1)
    excluded = (total == 0) | ~inside.any(1)
    share = torch.where(inside, maps, 0.0).sum(1) / torch.where(total == 0, 1.0, total)
    return torch.where(excluded, torch.nan, share)


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
        """Add a batch; see :func:`energy_in_mask`, and :func:`boxes_to_masks` where there are only boxes."""
        self._add(energy_in_mask(maps, masks))
