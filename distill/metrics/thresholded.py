"""Localisation of the part of a map that lies above a threshold."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int, Num, Shaped
from torch import Tensor

from distill.metrics.inputs import is_empty, shown
from distill.metrics.mean_score import MeanScore


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
    heat = shown(maps, masks.shape[1:], "min_max").flatten(1)
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
    heat = shown(maps, instance_masks.shape[1:], "max").flatten(1)
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
