"""A torch data set of (image, label[, boxes[, masks]]) as an :class:`~distill.data.ImageSet` in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from distill.data.image_files import free_memory, to_rgb
from distill.data.imageset import ImageSet
from distill.data.objects_of_images import Objects
from distill.errors import InputError


def as_image_set(dataset: Any, *, classes: Sequence[str] | None = None, name: str = "data") -> ImageSet:
    """Read every item of a data set into memory.

    Convention:
        - An image is a PIL image, a tensor (C, H, W) or an array (H, W) or (H, W, C); uint8, or float in [0, 1], which
          is rounded to 8 bits. All images have the same size: resize them in the data set.
        - Images are not normalised: each network has its own mean and standard deviation.
        - Labels are whole numbers from 0.
        - Boxes are (M, 4) numbers (x0, y0, x1, y1) in pixels, half open, or None; they are rounded to whole pixels
          outwards. Masks are (H, W) whole numbers, 0 for background and i for the i-th object, or None.

    Args:
        dataset: Anything with ``__len__`` and ``__getitem__`` whose items are (image, label), such as a data set of
            torchvision, or (image, label, boxes) or (image, label, boxes, masks); an ``ImageSet`` is returned as it is.
        classes: Names of the classes; by default ``dataset.classes``, or the numbers from 0 to the largest label.
        name: Name of the data set in error messages.

    Returns:
        Images (N, C, H, W) in uint8, with labels and class names, and boxes and masks if any item has them.

    Raises:
        InputError: if the data set is empty or cannot be indexed, or an item is not as above, or the images do
            not fit into memory.

    Example:
        >>> items = [(torch.zeros(3, 8, 8), 0), (torch.ones(3, 8, 8), 1)]
        >>> as_image_set(items, classes=["dark", "bright"]).images.shape
        torch.Size([2, 3, 8, 8])
    """
    if isinstance(dataset, ImageSet):
        return dataset
    if isinstance(dataset, DataLoader):
        raise InputError(f"{name}: expected a data set, got a DataLoader; pass its data set: `loader.dataset`.")
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise InputError(
            f"{name}: expected a data set with a length that can be indexed, got {type(dataset).__name__}; an iterable "
            "data set must be collected in a list first."
        )
    if not len(dataset):
        raise InputError(f"{name}: the data set is empty.")
    images: list[Tensor] = []
    labels: list[int] = []
    objects = Objects()
    for position in range(len(dataset)):
        image, label, *rest = _parts(dataset[position], f"{name}[{position}]")
        pixels = _pixels(image, f"{name}[{position}]")
        if images and pixels.shape != images[0].shape:
            raise InputError(
                f"{name}[{position}]: expected an image of shape {tuple(images[0].shape)} (C, H, W) as the first one, "
                f"got {tuple(pixels.shape)}; resize all images to one size in the data set."
            )
        if not images:
            _check_memory(len(dataset) * pixels.numel(), name)
        images.append(pixels)
        labels.append(label)
        objects.add(rest, tuple(pixels.shape[1:]), f"{name}[{position}]")
    names = classes if classes is not None else getattr(dataset, "classes", None)
    names = tuple(str(one) for one in names) if names is not None else tuple(map(str, range(max(labels) + 1)))
    if not 0 <= min(labels) <= max(labels) < len(names):
        raise InputError(
            f"{name}: expected labels from 0 to {len(names) - 1} for {len(names)} classes, got {min(labels)} to "
            f"{max(labels)}."
        )
    return ImageSet(torch.stack(images), torch.tensor(labels), names, objects.boxes(), objects.masks())


def _check_memory(needed: int, name: str) -> None:
    free = free_memory()
    if free is not None and 2 * needed > free:  # the list of the images and the tensor exist at the same time
        raise InputError(
            f"{name}: the images need {2 * needed / 1e9:.1f} GB of memory while they are read, but only "
            f"{free / 1e9:.1f} GB are free. Resize them in the data set, use fewer, or write them to files and use "
            "image_folder or table, which can decode on access."
        )


def _parts(item: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(item, tuple | list) or not 2 <= len(item) <= 4:
        got = f"{len(item)} values" if isinstance(item, tuple | list) else type(item).__name__
        raise InputError(f"{where}: expected (image, label), got {got}; boxes and masks may follow.")
    image, label, *rest = item
    try:
        number = int(label)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: expected a whole number as label, got {label!r}.") from error
    if number != label:
        raise InputError(f"{where}: expected a whole number as label, got {label!r}.")
    return image, number, *rest


def _pixels(image: Any, where: str) -> UInt8[Tensor, "c h w"]:
    if isinstance(image, Image.Image):
        image = np.array(image if image.mode == "L" else to_rgb(image, where))
    if isinstance(image, np.ndarray):
        image = torch.from_numpy(np.ascontiguousarray(image))
        image = image[None] if image.ndim == 2 else image.permute(2, 0, 1) if image.ndim == 3 else image
    if not isinstance(image, Tensor) or image.ndim != 3:
        shape = f" of shape {tuple(image.shape)}" if isinstance(image, Tensor) else ""
        raise InputError(
            f"{where}: expected a PIL image, a tensor (C, H, W) or an array (H, W, C), got "
            f"{type(image).__name__}{shape}."
        )
    image = image.detach().cpu()
    if image.dtype == torch.uint8:
        return image
    if not image.is_floating_point():
        raise InputError(f"{where}: expected uint8, or float in [0, 1], got {str(image.dtype).removeprefix('torch.')}.")
    low, high = float(image.min()), float(image.max())
    if not 0 <= low <= high <= 1:
        raise InputError(
            f"{where}: expected float values in [0, 1], got {low:.3g} to {high:.3g}; leave out the normalisation, "
            "since every network carries its own mean and standard deviation."
        )
    return (image * 255).round().to(torch.uint8)
