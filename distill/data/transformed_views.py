"""`TransformedViews`: numbered views of an image that transforms of torchvision make, with counted random state."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, get_args

import torch
from jaxtyping import Float, Int, Int64, Num, UInt8
from torch import Tensor, nn
from torchvision import tv_tensors

from distill.data.augment import Views, to_unit
from distill.data.counted import Purpose, integers_below, random_stream
from distill.data.imageset import ImageSet
from distill.data.named_transforms import Entries, make_transforms
from distill.errors import InputError, unknown_name, without_addresses
from distill.types import Batch

#: What is done with boxes and masks: they follow the transforms, or are left out.
Objects = Literal["carry", "drop"]
#: Views that are tried before training.
_TRIALS = 16
#: A box is rounded to whole pixels outwards, except for errors of rounding.
_ROUNDING = 1e-3


class TransformedViews:
    """Views of an image that a list of transforms makes.

    Convention:
        - View 0 is the image itself. View v of image i in a set is a function of the image, ``seed``, i and v: torch's
          generator of the CPU and Python's ``random`` are seeded with a counted number before the first transform. Both
          have their former state afterwards.
        - With ``limit`` K, an image has the views 1 to K. Without, epoch e has the view e + 1.
        - The transforms get one image at a time, uint8 (C, H, W) on the CPU, with one thread. Noise and erasing work
          on floats in [0, 1], which are rounded to 8 bits again.
        - Boxes are cut at the border of the view, and become (0, 0, 0, 0) outside of it. A box contains every pixel
          that it touches.

    Args:
        entries: Names of the transforms with their arguments.
        limit: Number of views per image; None for a new view in every epoch.
        objects: ``carry`` moves boxes and masks along with the image, ``drop`` leaves them out.
        where: Key of the list, for messages.

    Raises:
        InputError: If a transform is unknown or refused, an argument is wrong, or ``limit`` is not positive.

    Example:
        >>> views = TransformedViews([{"RandomCrop": {"size": 2}}], limit=3)
        >>> data = ImageSet(torch.arange(32, dtype=torch.uint8).view(2, 1, 4, 4), torch.tensor([0, 0]), ("only",))
        >>> index = torch.tensor([0, 1])
        >>> batch = data.take(index, views.draw(2, seed=0, epoch=5))
        >>> views.transform(batch, seed=0).images.shape
        torch.Size([2, 1, 2, 2])
    """

    identity = 0

    def __init__(
        self,
        entries: Entries,
        *,
        limit: int | None = None,
        objects: Objects = "carry",
        where: str = "data.augment.transforms",
    ) -> None:
        if limit is not None and limit < 1:
            raise InputError(f"`views` must be 1 or more, got {limit}.")
        if objects not in get_args(Objects):
            raise InputError(unknown_name("objects", objects, get_args(Objects)))
        self.entries, self.limit, self.objects, self.where = entries, limit, objects, where
        self.transforms = make_transforms(entries, where=where)

    def draw(self, n: int, *, seed: int, epoch: int) -> Int64[Tensor, " n"]:
        """Draw the view of each of ``n`` images for an epoch; see :meth:`distill.data.Views.draw`."""
        if self.limit is None:
            return torch.full((n,), 1 + epoch)
        words = random_stream(Purpose.VIEW, seed=seed, part=epoch).random_raw(n)
        return 1 + torch.from_numpy(integers_below(words, self.limit))

    def transform(self, batch: Batch, *, seed: int) -> Batch:
        """Apply the views of a batch that is still on the CPU, as uint8; returns uint8 images.

        Raises:
            InputError: If a transform fails, or the images of the batch do not become images of one size.
        """
        boxes, masks = (batch.boxes, batch.masks) if self.objects == "carry" else (None, None)
        made = []
        with _own_random_state():
            for row, (index, view) in enumerate(zip(batch.index.tolist(), batch.view.tolist(), strict=True)):
                _seed(seed, index, view)
                parts = [None if part is None else part[row] for part in (boxes, masks)]
                try:
                    made.append(_apply(self.transforms, batch.images[row], *parts))
                except Exception as error:  # libraries raise many kinds of errors
                    message = without_addresses(f"{type(error).__name__}: {error}")
                    raise InputError(f"{self.where}: image {index} in view {view}: {message}") from error
        images = [image for image, _, _ in made]
        if len({image.shape for image in images}) > 1:
            raise InputError(self._message_about_sizes({tuple(image.shape[1:]) for image in images}))
        return batch._replace(
            images=torch.stack(images),
            boxes=None if boxes is None else torch.stack([box for _, box, _ in made if box is not None]),
            masks=None if masks is None else torch.stack([mask for _, _, mask in made if mask is not None]),
        )

    def apply(self, images: Num[Tensor, "n c h w"], view: Int64[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Convert images that are already transformed to float in [0, 1], on their device."""
        return to_unit(images)

    def check(self, data: ImageSet, *, seed: int) -> None:
        """Try some views of the first image.

        Raises:
            InputError: If a transform fails on it, cannot carry its boxes or masks along, or changes the number of
                channels, or if the views differ in size.
        """
        batch = data.take(torch.tensor([0]), torch.tensor([1]))
        boxes, masks = (batch.boxes, batch.masks) if self.objects == "carry" else (None, None)
        parts = [None if part is None else part[0] for part in (boxes, masks)]
        sizes: list[set[tuple[int, ...]]] = [set() for _ in self.transforms]
        with _own_random_state():
            for view in range(1, _TRIALS + 1):
                _seed(seed, 0, view)
                sample: Any = _wrap(batch.images[0], *parts)
                for number, transform in enumerate(self.transforms):
                    sample = self._try(number, transform, sample)
                    sizes[number].add(tuple(sample[0].shape[1:]))
                channels = (len(sample[0]), batch.images.shape[1])
                if channels[0] != channels[1]:
                    raise InputError(
                        f"{self.where}: the transforms make images of {channels[0]} channels, expected {channels[1]}, "
                        "as before; change or remove Grayscale or RGB."
                    )
        if len(sizes) and len(sizes[-1]) > 1:
            raise InputError(self._message_about_sizes(sizes[-1], next(i for i, s in enumerate(sizes) if len(s) > 1)))

    def _try(self, number: int, transform: nn.Module, sample: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        where, name = f"{self.where}[{number}]", next(iter(self.entries[number]))
        try:
            return _call(transform, sample)
        except Exception as error:
            failure = error
        if len(sample) > 1:
            try:
                _call(transform, sample[:1])
            except Exception as error:
                failure = error
            else:
                raise InputError(
                    f"{where}: {name} cannot take the boxes and masks of these images along ({failure}). Remove it, or "
                    "set data.augment.objects=drop, which leaves boxes and masks out in training."
                ) from failure
        shape = tuple(sample[0].shape)
        raise InputError(f"{where}: {name} fails on an image of shape {shape}: {failure}") from failure

    def _message_about_sizes(self, sizes: set[tuple[int, ...]], number: int | None = None) -> str:
        name = "the transforms" if number is None else next(iter(self.entries[number]))
        where = self.where if number is None else f"{self.where}[{number}]"
        shown = ", ".join(f"{h} x {w}" for h, w in sorted(sizes)[:3])
        return (
            f"{where}: {name} gives images of different sizes ({shown}, ...), which do not form a batch. End the list "
            "with a transform of a fixed size, such as Resize or RandomCrop with a height and a width."
        )


#: Views of the training images: crops and flips on the device, or transforms on the CPU.
AnyViews: TypeAlias = Views | TransformedViews


@contextmanager
def _own_random_state() -> Iterator[None]:
    """Restore torch's generator of the CPU, Python's `random` and the number of threads on exit."""
    state, python_state = torch.default_generator.get_state(), random.getstate()
    threads = torch.get_num_threads()
    try:
        if threads != 1:
            torch.set_num_threads(1)  # sums depend on the number of threads, and worker processes have one
        with torch.no_grad():
            yield
    finally:
        if threads != 1:
            torch.set_num_threads(threads)
        torch.default_generator.set_state(state)
        random.setstate(python_state)


def _seed(seed: int, index: int, view: int) -> None:
    first, second = random_stream(Purpose.TRANSFORM, seed=seed, part=view, position=index).random_raw(2).tolist()
    torch.default_generator.manual_seed(first)
    random.seed(second)


def _wrap(image: Tensor, boxes: Tensor | None, masks: Tensor | None) -> tuple[Tensor, ...]:
    sample: list[Tensor] = [tv_tensors.Image(image)]
    if boxes is not None:
        size = (image.shape[1], image.shape[2])
        sample.append(tv_tensors.BoundingBoxes(boxes.float(), format="XYXY", canvas_size=size))
    if masks is not None:
        sample.append(tv_tensors.Mask(masks[None]))
    return tuple(sample)


def _call(transform: nn.Module, sample: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    result = transform(*sample)
    return (result,) if isinstance(result, Tensor) else tuple(result)


def _apply(
    transforms: Sequence[nn.Module],
    image: UInt8[Tensor, "c h w"],
    boxes: Int[Tensor, "m 4"] | None,
    masks: UInt8[Tensor, "h w"] | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the transformed image, boxes and masks."""
    sample = _wrap(image, boxes, masks)
    for transform in transforms:
        sample = _call(transform, sample)
    moved, *objects = (part.as_subclass(Tensor) for part in sample)
    if boxes is not None:
        boxes = _whole_boxes(objects.pop(0), empty=_is_empty(boxes), size=tuple(moved.shape[1:]))
    if masks is not None:
        masks = objects.pop(0)[0]
    return moved, boxes, masks


def _is_empty(boxes: Num[Tensor, "m 4"]) -> Tensor:
    return (boxes[:, 2:] <= boxes[:, :2]).any(1)


def _whole_boxes(boxes: Float[Tensor, "m 4"], *, empty: Tensor, size: tuple[int, ...]) -> Int64[Tensor, "m 4"]:
    """Cut boxes at the border of the image, and round them outwards; an empty box is (0, 0, 0, 0)."""
    limits = torch.tensor([size[1], size[0]] * 2)
    inside = boxes.clamp(min=0).minimum(limits)
    empty = empty | _is_empty(inside)
    whole = torch.cat([(inside[:, :2] + _ROUNDING).floor(), (inside[:, 2:] - _ROUNDING).ceil()], 1).long()
    return torch.where((empty | _is_empty(whole))[:, None], 0, whole)
