"""Collect the boxes and masks of images one by one."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from distill.errors import InputError


class Objects:
    """Boxes and masks of images, in the order in which they are added.

    Example:
        >>> objects = Objects()
        >>> objects.add([[[0, 0, 2, 1]]], (4, 4), "data[0]")
        >>> objects.add([None], (4, 4), "data[1]")
        >>> objects.boxes().tolist(), objects.masks()
        ([[[0, 0, 2, 1]], [[0, 0, 0, 0]]], None)
    """

    def __init__(self) -> None:
        self._boxes: list[Int64[Tensor, "m 4"] | None] = []
        self._masks: list[UInt8[Tensor, "h w"] | None] = []
        self._sizes: list[tuple[int, ...]] = []

    def add(self, values: list[Any], size: tuple[int, ...], where: str) -> None:
        """Add the boxes and the mask of an image.

        Args:
            values: Boxes (M, 4), and a mask (H, W); each may be None or missing.
            size: Height and width of the image.
            where: Name of the image in error messages.

        Raises:
            InputError: If a box or a mask has the wrong shape, or a box is empty or outside of the image.
        """
        boxes, mask = (*values, None, None)[:2]
        self._boxes.append(None if boxes is None else _check_boxes(boxes, size, where))
        self._masks.append(None if mask is None else _check_mask(mask, size, where))
        self._sizes.append(size)

    def boxes(self) -> Int64[Tensor, "n m 4"] | None:
        """Return the boxes of all images, padded with (0, 0, 0, 0); None if no image has any."""
        most = max((len(boxes) for boxes in self._boxes if boxes is not None), default=0)
        if not most:
            return None
        result = torch.zeros(len(self._boxes), most, 4, dtype=torch.int64)
        for row, boxes in enumerate(self._boxes):
            if boxes is not None:
                result[row, : len(boxes)] = boxes
        return result

    def masks(self) -> UInt8[Tensor, "n h w"] | None:
        """Return the masks of all images, 0 for an image without a mask; None if no image has one."""
        if all(mask is None for mask in self._masks):
            return None
        result = torch.zeros(len(self._masks), *self._sizes[0], dtype=torch.uint8)
        for row, mask in enumerate(self._masks):
            if mask is not None:
                result[row] = mask
        return result


def _check_boxes(boxes: Any, size: tuple[int, ...], where: str) -> Int64[Tensor, "m 4"]:
    values = _tensor(boxes, f"{where}: boxes").double()
    if values.numel() == 0:
        return torch.zeros(0, 4, dtype=torch.int64)
    if values.ndim == 1:
        values = values[None]
    if values.ndim != 2 or values.shape[1] != 4:
        raise InputError(f"{where}: expected boxes of shape (M, 4), got {tuple(values.shape)}.")
    height, width = size
    x0, y0, x1, y1 = values.unbind(1)
    bad = ~((x0 < x1) & (y0 < y1) & (x1 > 0) & (y1 > 0) & (x0 < width) & (y0 < height))
    if bad.any():
        raise InputError(
            f"{where}: expected boxes (x0, y0, x1, y1) in pixels of an image {width} wide and {height} high, got "
            f"{values[bad][0].tolist()}."
        )
    limit = torch.tensor([width, height, width, height])
    return torch.cat([values[:, :2].floor(), values[:, 2:].ceil()], 1).long().clamp(min=0).minimum(limit)


def _check_mask(mask: Any, size: tuple[int, ...], where: str) -> UInt8[Tensor, "h w"]:
    values = _tensor(mask, f"{where}: masks")
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if tuple(values.shape) != size or values.is_floating_point():
        raise InputError(
            f"{where}: expected a mask of whole numbers (H, W) = {size}, 0 for background, got "
            f"{str(values.dtype).removeprefix('torch.')} {tuple(values.shape)}."
        )
    if values.numel() and not 0 <= int(values.min()) <= int(values.max()) <= 255:
        raise InputError(f"{where}: expected numbers of objects from 0 to 255 in the mask, got {int(values.max())}.")
    return values.to(torch.uint8)


def _tensor(value: Any, where: str) -> Tensor:
    try:
        return torch.as_tensor(value).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{where}: expected numbers, got {type(value).__name__}.") from error
