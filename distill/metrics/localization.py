"""Localisation: whether a map lies on the object; boxes and instances as masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Num, Shaped
from torch import Tensor

from distill.metrics.base import MeanScore, is_empty, resize_and_normalize


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
    return boxes_to_instances(boxes, size) != 0


def boxes_to_instances(boxes: Num[Tensor, "n m 4"], size: Sequence[int]) -> Int[Tensor, "n h w"]:
    """Fill the boxes of every image with their numbers: 0 for background, i for the i-th box, from 1.

    Convention:
        - Boxes are (x0, y0, x1, y1) in pixels, half open. One without area, such as padding by zeros, fills nothing.
        - Where boxes overlap the smallest lies in front, and of equally large ones the first: a small object before a
          large one keeps its pixels.

    Args:
        boxes: As many an image as the one with most has.
        size: Height and width.

    Example:
        >>> boxes_to_instances(torch.tensor([[[0, 0, 4, 1], [1, 0, 3, 1], [0, 0, 0, 0]]]), (2, 4))
        tensor([[[1, 2, 2, 1],
                 [0, 0, 0, 0]]], dtype=torch.int32)
    """
    rows = torch.arange(size[0], device=boxes.device)[:, None]
    columns = torch.arange(size[1], device=boxes.device)
    instances = torch.zeros(len(boxes), *size, dtype=torch.int32, device=boxes.device)
    front = torch.full(instances.shape, torch.inf, dtype=torch.float64, device=boxes.device)
    for number, box in enumerate(boxes.unbind(1), start=1):
        x0, y0, x1, y1 = box.double()[..., None, None].unbind(1)
        area = (x1 - x0) * (y1 - y0)
        inside = (rows >= y0) & (rows < y1) & (columns >= x0) & (columns < x1) & (area < front)
        front = torch.where(inside, area, front)
        instances = torch.where(inside, number, instances)
    return instances


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
    heat = resize_and_normalize(maps, masks.shape[1:], "max").flatten(1)
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
        >>> pointing_game(maps, masks), pointing_game(maps, masks, tolerance=1.0)
        (tensor([1., 0., nan]), tensor([1., 1., nan]))
    """
    if not tolerance >= 0:
        raise ValueError(f"`tolerance` must not be negative, got {tolerance}.")
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

    def __init__(self, *, tolerance: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tolerance = tolerance

    def update(  # type: ignore[override]  # torchmetrics: every metric has arguments of its own
        self, maps: Float[Tensor, "n i j"], masks: Shaped[Tensor, "n h w"]
    ) -> None:
        """Add a batch; see :func:`pointing_game`."""
        self._add(pointing_game(maps, masks, tolerance=self.tolerance))


def box_localization(
    maps: Float[Tensor, "n i j"], masks: Shaped[Tensor, "n h w"], *, delta: float
) -> Float[Tensor, " n"]:
    r"""Loc(delta): how well the part of a map above a threshold fills the object and nothing else.

    :math:`|T \cap B| / (|B| + |T \setminus B|)` with :math:`T` where the map is above delta and :math:`B` the object:
    the intersection over the union of both.

    Convention:
        - What is negative in a map counts as 0; it is resized to the mask (bilinear, ``align_corners=False``), then
          moved and scaled to [0, 1]; strictly above ``delta`` counts.
        - All instances of an image count as one object.
        - NaN (no score) where the mask is empty or the map is the same everywhere, zero or not: it has no range.

    Args:
        maps: In any size and scale.
        masks: 0 or false for background, anything else for an instance; of boxes, see
            :func:`distill.metrics.boxes_to_masks`.
        delta: From 0 to below 1; the paper's are 0, 0.25 and 0.5.

    Returns:
        A score from 0 to 1 for every image.

    Raises:
        ValueError: if ``delta`` is out of its range.

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
    """Share of an image's instances that the high part of its map touches.

    Convention:
        - A map is made as in :func:`box_localization`, but divided by its maximum; ``delta`` and above counts.
        - NaN (no score) where there is no instance or the map is zero everywhere.
        - A map that is bright everywhere touches all: read it beside the complexity.

    Args:
        maps: In any size and scale.
        instance_masks: 0 for background, i for the i-th instance; of boxes, see
            :func:`distill.metrics.boxes_to_instances`.
        delta: Above 0 and at most 1.

    Returns:
        A score from 0 to 1 for every image.

    Raises:
        ValueError: if ``delta`` is out of its range.

    Example:
        >>> instances_hit(torch.tensor([[[4.0, 1.0, 2.0, 0.0]]]), torch.tensor([[[1, 2, 0, 2]]]))
        tensor([0.5000])
    """
    if not 0 < delta <= 1:
        raise ValueError(f"`delta` must be above 0 and at most 1, got {delta}.")
    instances = instance_masks.flatten(1)
    heat = resize_and_normalize(maps, instance_masks.shape[1:], "max").flatten(1)
    known = _distinct(instances)
    touched = _distinct(torch.where(heat >= delta, instances, 0)).to(heat.dtype)
    excluded = is_empty(heat) | heat.isnan().any(1) | (known == 0)
    return torch.where(excluded, torch.nan, touched / known.clamp(min=1))


def _distinct(instances: Num[Tensor, "n p"]) -> Int[Tensor, " n"]:
    """Count the different numbers of every row, 0 left out."""
    ordered = instances.sort(1).values
    new = torch.cat([torch.ones_like(ordered[:, :1], dtype=torch.bool), ordered[:, 1:] != ordered[:, :-1]], 1)
    return (new & (ordered != 0)).sum(1)


class BoxLocalization(MeanScore):
    """Mean Loc(delta); images without an object or without a map are excluded and counted.

    Args:
        delta: See :func:`box_localization`.
        kwargs: What every torchmetrics metric takes.
    """

    def __init__(self, *, delta: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.delta = delta

    def update(  # type: ignore[override]  # torchmetrics: every metric has arguments of its own
        self, maps: Float[Tensor, "n i j"], masks: Shaped[Tensor, "n h w"]
    ) -> None:
        """Add a batch; see :func:`box_localization`."""
        self._add(box_localization(maps, masks, delta=self.delta))


class InstancesHit(MeanScore):
    """Mean share of an image's instances that the high part of its map touches.

    Args:
        delta: See :func:`instances_hit`.
        kwargs: What every torchmetrics metric takes.
    """

    def __init__(self, *, delta: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.delta = delta

    def update(  # type: ignore[override]  # torchmetrics: every metric has arguments of its own
        self, maps: Float[Tensor, "n i j"], instance_masks: Num[Tensor, "n h w"]
    ) -> None:
        """Add a batch; see :func:`instances_hit`."""
        self._add(instances_hit(maps, instance_masks, delta=self.delta))
