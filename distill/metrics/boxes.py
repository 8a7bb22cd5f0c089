"""Boxes and instances to masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int, Num
from torch import Tensor


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
