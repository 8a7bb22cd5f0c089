"""A split of a data set, decoded and in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from distill.types import Batch


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their labels, and with boxes and masks where they are known.

    Convention:
        - ``boxes`` are (x0, y0, x1, y1) in pixels, half open, one row an instance.
        - ``images`` lie in memory, or are the stand-in of :class:`~distill.data.DecodedImages`, which is indexed alike.
        - ``masks`` hold 0 for background and i for the i-th instance, counted from 1 as the rows of ``boxes``.

    Raises:
        ValueError: if the parts differ in length, or a label names no class.

    Example:
        >>> data = ImageSet(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0]), ("cat", "dog"))
        >>> data.subset([0, 2]).labels
        tensor([0, 0])
    """

    images: UInt8[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    classes: tuple[str, ...]
    boxes: Int[Tensor, "n m 4"] | None = None
    masks: UInt8[Tensor, "n h w"] | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(
                f"`images` must be uint8 (N, C, H, W), got {self.images.dtype} {tuple(self.images.shape)}."
            )
        for name in ("labels", "boxes", "masks"):
            part = getattr(self, name)
            if part is not None and len(part) != len(self.images):
                raise ValueError(f"`{name}` must be as many as the images, {len(self.images)}, got {len(part)}.")
        if len(self.labels) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            raise ValueError(f"`labels` must lie between 0 and {len(self.classes) - 1}, as `classes` does.")

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, index: Sequence[int] | Int[Tensor, " m"]) -> ImageSet:
        """Copy some of the images, in the order given, into a set that counts them from 0."""
        index = torch.as_tensor(index, dtype=torch.int64)
        boxes = None if self.boxes is None else self.boxes[index]
        masks = None if self.masks is None else self.masks[index]
        return ImageSet(self.images[index], self.labels[index], self.classes, boxes, masks)

    def take(self, index: Int[Tensor, " m"], view: Int[Tensor, " m"]) -> Batch:
        """Gather a batch, still uint8, and write down which view of each image is to be taken."""
        return Batch(
            images=self.images[index],
            labels=self.labels[index],
            index=index,
            view=view,
            boxes=None if self.boxes is None else self.boxes[index],
            masks=None if self.masks is None else self.masks[index],
        )
