"""Localisation: whether a map is on the object; and the conversion of boxes to masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Num, Shaped
from torch import Tensor

from distill.metrics.common import MeanScore, is_empty, resize_and_normalize


def boxes_to_masks(boxes: Num[Tensor, "n m 4"], size: Sequence[int]) -> Bool[Tensor, "n h w"]:
    """Convert boxes to masks: true for pixels inside at least one box.

    Convention:
        - Boxes are (x0, y0, x1, y1) in pixels, half open. Boxes without area, such as zero padding, are ignored.

    Args:
        boxes: The boxes of each image, padded to the same number.
        size: Height and width of the masks.

    Example:
        >>> boxes_to_masks(torch.tensor([[[1, 0, 3, 1], [0, 0, 0, 0]]]), (2, 4)).int()
        tensor([[[0, 1, 1, 0],
                 [0, 0, 0, 0]]], dtype=torch.int32)
    """
    return boxes_to_instances(boxes, size) != 0


def boxes_to_instances(boxes: Num[Tensor, "n m 4"], size: Sequence[int]) -> Int[Tensor, "n h w"]:
    """Convert boxes to instance masks: 0 for background, i for the i-th box, counted from 1.

    Convention:
        - Boxes are (x0, y0, x1, y1) in pixels, half open. Boxes without area, such as zero padding, are ignored.
        - Pixels in several boxes belong to the smallest box, or to the first of equally large ones, so a small object
          in front of a large one keeps its pixels.

    Args:
        boxes: The boxes of each image, padded to the same number.
        size: Height and width of the masks.

    Example:
        >>> boxes_to_instances(torch.tensor([[[0, 0, 4, 1], [1, 0, 3, 1], [0, 0, 0, 0]]]), (2, 4))
        tensor([[[1, 2, 2, 1],
                 [0, 0, 0, 0]]], dtype=torch.int32)
    """
    rows = torch.arange(size[0], device=boxes.device)[:, None]
    columns = torch.arange(size[1], device=boxes.device)
    instances = torch.zeros(len(boxes), *size, dtype=torch.int32, device=boxes.device)
    smallest = torch.full(instances.shape, torch.inf, dtype=torch.float64, device=boxes.device)
    for number, box in enumerate(boxes.unbind(1), start=1):
        x0, y0, x1, y1 = box.double()[..., None, None].unbind(1)
        area = (x1 - x0) * (y1 - y0)
        inside = (rows >= y0) & (rows < y1) & (columns >= x0) & (columns < x1) & (area < smallest)
        smallest = torch.where(inside, area, smallest)
        instances = torch.where(inside, number, instances)
    return instances


def energy_in_mask(maps: Float[Tensor, "n i j"], masks: Shaped[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    r"""Share of a map inside the object mask, :math:`\sum_{p \in M} a_p / \sum_p a_p` (energy pointing game).

    Convention:
        - Negative values of a map are set to 0; then it is resized to the mask (bilinear, ``align_corners=False``).
        - All instances of an image are treated as one object, their union.
        - NaN (no score) if the mask is empty or the map is zero everywhere.

    Args:
        maps: Maps in any size and scale.
        masks: 0 or false for background, any other value for an object.

    Returns:
        One score per image, from 0 to 1. A uniform map scores the share of the image that the object covers.

    References:
        Wang et al., "Score-CAM", CVPR workshops 2020, section 4.3.

    Example:
        >>> maps = torch.tensor([[[1.0, 3.0]], [[0.0, 0.0]], [[1.0, 1.0]]])
        >>> energy_in_mask(maps, torch.tensor([[[0, 2]], [[0, 1]], [[0, 0]]]))
        tensor([0.7500,    nan,    nan])
    """
    inside = (masks != 0).flatten(1)
    heat = resize_and_normalize(maps, masks.shape[1:], "max").flatten(1)
    total = heat.sum(1)
    excluded = (total == 0) | ~inside.any(1)
    share = torch.where(inside, heat, 0.0).sum(1) / torch.where(total == 0, 1.0, total)
    return torch.where(excluded, torch.nan, share)


def pointing_game(
    maps: Float[Tensor, "n i j"], masks: Shaped[Tensor, "n h w"], *, tolerance: float = 0
) -> Float[Tensor, " n"]:
    """Return 1 for each image whose map has its maximum on the object, else 0.

    Convention:
        - Maps are processed as in :func:`energy_in_mask`; of equal maxima, the first in row-major order is used.
        - All instances of an image are treated as one object.
        - NaN (no score) if the mask is empty, or the map is zero everywhere or contains NaN.

    Args:
        maps: Maps in any size and scale.
        masks: 0 or false for background, any other value for an object.
        tolerance: Largest Euclidean distance of the maximum from the nearest pixel of the object, in pixels of the
            mask; 0 or more. Zhang et al. use 15 on images of VOC and COCO.

    Returns:
        1 for a hit, 0 for a miss.

    Raises:
        ValueError: if ``tolerance`` is negative.

    References:
        Zhang et al., "Top-Down Neural Attention by Excitation Backprop", IJCV 2018, section 4.1.

    Example:
        >>> maps = torch.tensor([[[1.0, 3.0, 0.0]], [[1.0, 3.0, 0.0]], [[1.0, 3.0, 0.0]]])
        >>> masks = torch.tensor([[[0, 2, 0]], [[1, 0, 0]], [[0, 0, 0]]])
        >>> pointing_game(maps, masks), pointing_game(maps, masks, tolerance=1.0)
        (tensor([1., 0., nan]), tensor([1., 1., nan]))
    """
    if not tolerance >= 0:
        raise ValueError(f"`tolerance` must be 0 or more, got {tolerance}.")
    height, width = masks.shape[1:]
    inside = masks != 0
    heat = resize_and_normalize(maps, (height, width), "max")
    highest = heat.flatten(1).argmax(1)
    rows = torch.arange(height, device=maps.device) - highest[:, None] // width
    columns = torch.arange(width, device=maps.device) - highest[:, None] % width
    near = rows.square()[:, :, None] + columns.square()[:, None, :] <= tolerance**2
    hit = (inside & near).flatten(1).any(1).to(heat.dtype)
    excluded = is_empty(heat) | heat.isnan().flatten(1).any(1) | ~inside.flatten(1).any(1)
    return torch.where(excluded, torch.nan, hit)


class EnergyPointingGame(MeanScore):
    """Mean share of a map inside the object mask; images with an empty mask or map are excluded and counted.

    Example:
        >>> metric = EnergyPointingGame()
        >>> metric.update(torch.tensor([[[1.0, 3.0]], [[0.0, 0.0]]]), torch.tensor([[[0, 1]], [[0, 1]]]))
        >>> metric.compute()
        Measurement(value=tensor(0.7500, dtype=torch.float64), n=tensor(1), excluded=tensor(1))
    """

    def update(  # type: ignore[override]  # in torchmetrics each metric has its own arguments
        self, maps: Float[Tensor, "n i j"], masks: Shaped[Tensor, "n h w"]
    ) -> None:
        """Add a batch; see :func:`energy_in_mask`, and :func:`distill.metrics.boxes_to_masks` for boxes."""
        self._add(energy_in_mask(maps, masks))


class PointingGame(MeanScore):
    """Share of images whose map has its maximum on the object; images without a score are excluded and counted.

    Args:
        tolerance: See :func:`pointing_game`.
        kwargs: Keyword arguments of :class:`torchmetrics.Metric`.
    """

    def __init__(self, *, tolerance: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tolerance = tolerance

    def update(  # type: ignore[override]  # in torchmetrics each metric has its own arguments
        self, maps: Float[Tensor, "n i j"], masks: Shaped[Tensor, "n h w"]
    ) -> None:
        """Add a batch; see :func:`pointing_game`."""
        self._add(pointing_game(maps, masks, tolerance=self.tolerance))


def box_localization(
    maps: Float[Tensor, "n i j"], masks: Shaped[Tensor, "n h w"], *, delta: float
) -> Float[Tensor, " n"]:
    r"""Loc(delta): intersection over union of the object and the part of the map above a threshold.

    :math:`|T \cap B| / (|B| + |T \setminus B|)`, where :math:`T` are the pixels with the map above delta and :math:`B`
    the pixels of the object.

    Convention:
        - Negative values of a map are set to 0; it is resized to the mask (bilinear, ``align_corners=False``), then
          scaled to minimum 0 and maximum 1; :math:`T` are the pixels strictly above ``delta``.
        - All instances of an image are treated as one object.
        - NaN (no score) if the mask is empty, or the map is constant or contains NaN.

    Args:
        maps: Maps in any size and scale.
        masks: 0 or false for background, any other value for an object; for boxes, see
            :func:`distill.metrics.boxes_to_masks`.
        delta: Threshold, from 0 to below 1; the paper uses 0, 0.25 and 0.5.

    Returns:
        One score per image, from 0 to 1.

    Raises:
        ValueError: if ``delta`` is out of range.

    References:
        Chattopadhyay et al., WACV 2018, section 4.3.

    Example:
        >>> maps = torch.tensor([[[0.0, 1.0, 4.0, 3.0]]])
        >>> masks = torch.tensor([[[0, 1, 1, 0]]])
        >>> box_localization(maps, masks, delta=0.0), box_localization(maps, masks, delta=0.5)
        (tensor([0.6667]), tensor([0.3333]))
    """
    if not 0 <= delta < 1:
        raise ValueError(f"`delta` must be from 0 to below 1, got {delta}.")
    box = (masks != 0).flatten(1)
    heat = resize_and_normalize(maps, masks.shape[1:], "min_max").flatten(1)
    above = heat > delta
    inside, outside = (above & box).sum(1).to(heat.dtype), (above & ~box).sum(1)
    excluded = is_empty(heat) | heat.isnan().any(1) | ~box.any(1)
    return torch.where(excluded, torch.nan, inside / (box.sum(1) + outside))


def instances_hit(
    maps: Float[Tensor, "n i j"], instance_masks: Num[Tensor, "n h w"], *, delta: float = 0.5
) -> Float[Tensor, " n"]:
    """Share of an image's instances that overlap the high part of its map.

    Convention:
        - Maps are processed as in :func:`box_localization`, but divided by their maximum; the high part are the pixels
          at or above ``delta``.
        - NaN (no score) if there is no instance, or the map is zero everywhere or contains NaN.
        - A uniform map overlaps all instances, so read this together with the complexity.

    Args:
        maps: Maps in any size and scale.
        instance_masks: 0 for background, i for the i-th instance; for boxes, see
            :func:`distill.metrics.boxes_to_instances`.
        delta: Threshold, above 0 and at most 1.

    Returns:
        One score per image, from 0 to 1.

    Raises:
        ValueError: if ``delta`` is out of range.

    Example:
        >>> instances_hit(torch.tensor([[[4.0, 1.0, 2.0, 0.0]]]), torch.tensor([[[1, 2, 0, 2]]]))
        tensor([0.5000])
    """
    if not 0 < delta <= 1:
        raise ValueError(f"`delta` must be above 0 and at most 1, got {delta}.")
    instances = instance_masks.flatten(1)
    heat = resize_and_normalize(maps, instance_masks.shape[1:], "max").flatten(1)
    total = _count_distinct(instances)
    hit = _count_distinct(torch.where(heat >= delta, instances, 0)).to(heat.dtype)
    excluded = is_empty(heat) | heat.isnan().any(1) | (total == 0)
    return torch.where(excluded, torch.nan, hit / total.clamp(min=1))


def _count_distinct(instances: Num[Tensor, "n p"]) -> Int[Tensor, " n"]:
    """Count the distinct values of each row, except 0."""
    ordered = instances.sort(1).values
    new = torch.cat([torch.ones_like(ordered[:, :1], dtype=torch.bool), ordered[:, 1:] != ordered[:, :-1]], 1)
    return (new & (ordered != 0)).sum(1)


class BoxLocalization(MeanScore):
    """Mean Loc(delta); images with an empty mask, or a constant map, are excluded and counted.

    Args:
        delta: See :func:`box_localization`.
        kwargs: Keyword arguments of :class:`torchmetrics.Metric`.
    """

    def __init__(self, *, delta: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.delta = delta

    def update(  # type: ignore[override]  # in torchmetrics each metric has its own arguments
        self, maps: Float[Tensor, "n i j"], masks: Shaped[Tensor, "n h w"]
    ) -> None:
        """Add a batch; see :func:`box_localization`."""
        self._add(box_localization(maps, masks, delta=self.delta))


class InstancesHit(MeanScore):
    """Mean share of an image's instances that overlap the high part of its map.

    Args:
        delta: See :func:`instances_hit`.
        kwargs: Keyword arguments of :class:`torchmetrics.Metric`.
    """

    def __init__(self, *, delta: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.delta = delta

    def update(  # type: ignore[override]  # in torchmetrics each metric has its own arguments
        self, maps: Float[Tensor, "n i j"], instance_masks: Num[Tensor, "n h w"]
    ) -> None:
        """Add a batch; see :func:`instances_hit`."""
        self._add(instances_hit(maps, instance_masks, delta=self.delta))
