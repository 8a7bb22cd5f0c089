"""`ImageSet`: one split of a data set; and the channel statistics of its images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from distill.types import Batch


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and labels, with boxes and masks if available.

    Convention:
        - ``boxes`` are (x0, y0, x1, y1) in pixels, half open, one row per instance.
        - ``images`` are a tensor in memory, or a :class:`~distill.data.DecodedImages` with the same indexing.
        - ``masks`` are 0 for background and i for the i-th instance, counted from 1 in the order of ``boxes``.
        - ``labels`` are one class per image (N,), or, for several classes per image, (N, classes) with 1 for a class
          that is present, 0 for one that is absent, and -1 where that is not known.
        - ``box_classes`` are the classes of the instances, -1 for none; needed where an image has several labels.
        - ``skipped`` are the files that were left out because they cannot be decoded.

    Raises:
        ValueError: if the lengths differ, ``images`` have the wrong type or shape, or a label is not a class number.

    Example:
        >>> data = ImageSet(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0]), ("cat", "dog"))
        >>> data.subset([0, 2]).labels
        tensor([0, 0])
    """

    images: UInt8[Tensor, "n c h w"]
    labels: Int[Tensor, " n"] | Int[Tensor, "n classes"]
    classes: tuple[str, ...]
    boxes: Int[Tensor, "n m 4"] | None = None
    masks: UInt8[Tensor, "n h w"] | None = None
    skipped: tuple[str, ...] = ()
    box_classes: Int[Tensor, "n m"] | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(
                f"`images` must be uint8 (N, C, H, W), got {self.images.dtype} {tuple(self.images.shape)}."
            )
        _check_labels(self.labels, len(self.classes))
        for name in ("labels", "boxes", "masks", "box_classes"):
            part = getattr(self, name)
            if part is not None and len(part) != len(self.images):
                raise ValueError(f"`{name}` must have one entry per image, {len(self.images)}, got {len(part)}.")
        if self.box_classes is not None:
            if self.boxes is None or self.box_classes.shape != self.boxes.shape[:2]:
                raise ValueError(f"`box_classes` must have one class per box, got {tuple(self.box_classes.shape)}.")
            _check_range("box_classes", self.box_classes, -1, len(self.classes) - 1)

    @property
    def multilabel(self) -> bool:
        """Whether an image has several labels."""
        return self.labels.ndim == 2

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, index: Sequence[int] | Int[Tensor, " m"]) -> ImageSet:
        """Return a new set with the images at ``index``, in that order."""
        index = torch.as_tensor(index, dtype=torch.int64)
        boxes = None if self.boxes is None else self.boxes[index]
        masks = None if self.masks is None else self.masks[index]
        box_classes = None if self.box_classes is None else self.box_classes[index]
        return ImageSet(self.images[index], self.labels[index], self.classes, boxes, masks, box_classes=box_classes)

    def take(self, index: Int[Tensor, " m"], view: Int[Tensor, " m"]) -> Batch:
        """Return a batch of uint8 images, with the number of the view to apply to each."""
        return Batch(
            images=self.images[index],
            labels=self.labels[index],
            index=index,
            view=view,
            boxes=None if self.boxes is None else self.boxes[index],
            masks=None if self.masks is None else self.masks[index],
            box_classes=None if self.box_classes is None else self.box_classes[index],
        )


def _check_labels(labels: Tensor, classes: int) -> None:
    if labels.ndim not in (1, 2) or labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(
            "`labels` must be whole numbers (N,), one class per image, or (N, classes) with 1, 0 or -1 for each class, "
            f"got {labels.dtype} {tuple(labels.shape)}."
        )
    if labels.ndim == 1:
        _check_range("labels", labels, 0, classes - 1, ", the last of `classes`")
    elif labels.shape[1] != classes:
        raise ValueError(f"`labels` must have one column per class, {classes}, got {labels.shape[1]}.")
    else:
        _check_range("labels", labels, -1, 1)


def _check_range(name: str, values: Tensor, low: int, high: int, which: str = "") -> None:
    if values.numel() and not low <= int(values.min()) <= int(values.max()) <= high:
        raise ValueError(
            f"`{name}` must lie between {low} and {high}{which}; got {int(values.min())} to {int(values.max())}."
        )


MAX_VALUES = 2**28  # 87,381 images of 3 x 32 x 32, 1,783 of 3 x 224 x 224
_logger = logging.getLogger(__name__)


def channel_statistics(images: UInt8[Tensor, "n c h w"]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation of each channel over all images and pixels, scaled to [0, 1].

    Convention:
        - Sums are computed in integers, so the result does not depend on the order, the machine or the batch size.
        - If the set has more than 2 ** 28 values, a subset of at most that size is used: whole images, evenly spaced
          over the set. The subset is the same for images in memory and in files.
        - The standard deviation is that of the population: the divisor is the number of pixels.

    Raises:
        ValueError: if there are no images.

    Example:
        >>> channel_statistics(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
        ((0.5,), (0.5,))
    """
    values = images.shape[1:].numel()
    if len(images) * values == 0:
        raise ValueError("`images` must contain at least one image.")
    used = min(len(images), max(1, MAX_VALUES // values))
    if used < len(images):
        _logger.info("computing channel mean and standard deviation from %d of %d images", used, len(images))
    level = torch.arange(256)
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for index in (torch.arange(used) * len(images) // used).split(256):
        for channel, pixels in enumerate(images[index].unbind(1)):
            counts[channel] += torch.bincount(pixels.flatten(), minlength=256)
    n = used * values // images.shape[1]
    totals = (counts * level).sum(1).tolist()
    squares = (counts * level**2).sum(1).tolist()
    means = tuple(total / (255 * n) for total in totals)
    deviations = tuple(
        (n * square - total**2) ** 0.5 / (255 * n) for total, square in zip(totals, squares, strict=True)
    )
    return means, deviations
