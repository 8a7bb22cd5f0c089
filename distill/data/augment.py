"""Augmentation: numbered views (crops and flips) of an image, and colour jitter."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Num
from numpy.typing import NDArray
from torch import Tensor

from distill.data.counted import Purpose, integers_below, random_stream
from distill.errors import InputError, unknown_name

Padding = Literal["zero", "reflect"]
_ROWS = 65_536


@dataclass(frozen=True)
class Views:
    """The views of an image: all crops of the image padded by ``pad`` pixels and, with ``flip``, their mirror images.

    Convention:
        - View ``(f * (2 pad + 1) + dy) * (2 pad + 1) + dx`` is the crop of the image's size that starts at row ``dy``
          and column ``dx`` of the padded image, flipped left to right if ``f`` is 1.
        - View ``identity`` is the image itself.

    Args:
        pad: Pixels added on every side, 0 or more.
        flip: Whether to include flipped views.
        padding: ``zero`` pads with black, ``reflect`` with the image reflected at its outermost pixels.
        limit: Number of views used per image; the seed and the image determine which. None for all views.

    Raises:
        InputError: if ``pad`` is negative, ``padding`` is unknown, or ``limit`` is not from 1 to the number of views.

    Example:
        >>> views = Views(pad=1)
        >>> views.count, views.identity, views.decode(torch.tensor([0, 4, 17]))
        (18, 4, (tensor([0, 1, 2]), tensor([0, 1, 2]), tensor([False, False,  True])))
    """

    pad: int = 4
    flip: bool = True
    padding: Padding = "zero"
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise InputError(f"`pad` must be 0 or more pixels, got {self.pad}.")
        if self.padding not in get_args(Padding):
            raise InputError(unknown_name("padding", self.padding, get_args(Padding)))
        if self.limit is not None and not 1 <= self.limit <= self.count:
            raise InputError(f"`views` must be from 1 to {self.count}, the number of all views; got {self.limit}.")

    @property
    def shifts(self) -> int:
        """Number of crop positions along one axis."""
        return 2 * self.pad + 1

    @property
    def count(self) -> int:
        """Number of views."""
        return self.shifts**2 * (2 if self.flip else 1)

    @property
    def identity(self) -> int:
        """Number of the view that is the image itself."""
        return self.pad * self.shifts + self.pad

    def draw(self, n: int, *, seed: int, epoch: int) -> Int64[Tensor, " n"]:
        """Draw the view of each of ``n`` images for an epoch.

        Convention:
            - Element ``i`` is a function of ``seed``, ``epoch`` and ``i``; it does not depend on ``n``, on the order of
              training or on resuming.

        Example:
            >>> Views().draw(3, seed=0, epoch=1).tolist() == Views().draw(9, seed=0, epoch=1).tolist()[:3]
            True
        """
        words = random_stream(Purpose.VIEW, seed=seed, part=epoch).random_raw(n)
        if self.limit is None or self.limit == self.count:
            return torch.from_numpy(integers_below(words, self.count))
        allowed = _choose_views(n, self.count, self.limit, seed)
        return torch.from_numpy(allowed[np.arange(n), integers_below(words, self.limit)])

    def decode(self, view: Int64[Tensor, " n"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return first row, first column and flip (true or false) of each view number."""
        rest = view % self.shifts**2
        return rest // self.shifts, rest % self.shifts, view >= self.shifts**2

    def crop(self, images: Num[Tensor, "n c h w"], view: Int64[Tensor, " n"]) -> Num[Tensor, "n c h w"]:
        """Apply one view to each image and keep the dtype; pass masks as images with one channel.

        Raises:
            InputError: if ``padding`` is ``reflect`` and ``pad`` is not smaller than the image.
        """
        if self.count == 1:
            return images
        n, channels, height, width = images.shape
        if self.padding == "reflect" and self.pad >= min(height, width):
            raise InputError(
                f"`pad` must be smaller than the image if `padding` is reflect, got {self.pad} for {height} x {width}."
            )
        top, left, flipped = (part[:, None] for part in self.decode(view))
        rows = torch.arange(height, device=images.device) + top
        columns = torch.arange(width, device=images.device)
        columns = torch.where(flipped, width - 1 - columns, columns) + left
        if self.padding == "zero":
            images = F.pad(images, [self.pad] * 4)
        else:
            rows, columns = _reflect(rows - self.pad, height), _reflect(columns - self.pad, width)
        pixels = rows[:, :, None] * images.shape[3] + columns[:, None, :]
        pixels = pixels.view(n, 1, height * width).expand(n, channels, height * width)
        return images.flatten(2).gather(2, pixels).view(n, channels, height, width)

    def apply(self, images: Num[Tensor, "n c h w"], view: Int64[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Apply one view to each image; return float in [0, 1] in ``channels_last`` layout.

        Convention:
            - Runs on the device of the images without synchronisation.
            - uint8 is divided by 255; float is assumed to be in [0, 1].

        Args:
            images: uint8, or float in [0, 1].
            view: View number of each image, from 0 to ``count`` - 1.
        """
        return to_unit(self.crop(images, view))


@functools.lru_cache(maxsize=2)
def _choose_views(n: int, count: int, limit: int, seed: int) -> NDArray[np.int64]:
    """Choose ``limit`` of the views of each image, (n, limit); the choice for an image does not depend on ``n``."""
    source = random_stream(Purpose.VIEW_CHOICE, seed=seed)
    parts = [
        np.argsort(source.random_raw(rows * count).reshape(rows, count), axis=1, kind="stable")[:, :limit]
        for rows in (min(_ROWS, n - start) for start in range(0, n, _ROWS))
    ]
    return np.concatenate(parts).astype(np.int64)


def to_unit(images: Num[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Convert uint8 images to float32 in [0, 1]; float images keep their values. Both get ``channels_last`` layout.

    Example:
        >>> to_unit(torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8))
        tensor([[[[0.0000, 0.2000, 1.0000]]]])
    """
    if images.is_floating_point():
        return images.contiguous(memory_format=torch.channels_last)
    return images.to(torch.float32, memory_format=torch.channels_last).div_(255)


def _reflect(position: Int64[Tensor, "n s"], length: int) -> Int64[Tensor, "n s"]:
    return length - 1 - (length - 1 - position.abs()).abs()


_LARGEST = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}


@dataclass(frozen=True)
class ColourJitter:
    """Randomly change brightness, contrast, saturation and hue, in this order, by separate amounts for every image.

    Convention:
        - A factor is uniform in [1 - x, 1 + x], a hue shift in [-x, x]. Both are drawn from torch's global generator,
          not from the view number, so outputs for jittered images cannot be cached by image and view.
        - Contrast blends with the image's mean grey, saturation with the grey image (ITU-R 601); results are clipped.
        - Hue is that of HSV; 1 is the full circle.
        - The amounts have the same meaning as in torchvision's ``ColorJitter``, which applies one amount to the whole
          batch, in a random order.

    Args:
        brightness: From 0 (no change) to 1.
        contrast: From 0 (no change) to 1.
        saturation: From 0 (no change) to 1; applied to images with three channels only.
        hue: From 0 (no change) to 0.5; applied to images with three channels only.

    Raises:
        InputError: if an amount is out of range.

    Example:
        >>> images = torch.rand(2, 3, 4, 4)
        >>> bool(torch.equal(ColourJitter()(images), images))
        True
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name, largest in _LARGEST.items():
            if not 0 <= getattr(self, name) <= largest:
                raise InputError(f"`{name}` must be from 0 to {largest:g}, got {getattr(self, name)}.")

    def __call__(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Apply the jitter to images in [0, 1]; the memory layout is preserved."""
        rgb = images.shape[1] == 3
        if self.brightness:
            images = (images * (1 + _uniform(images, self.brightness))).clamp(0, 1)
        if self.contrast:
            images = _blend(images, _grey(images).mean((1, 2, 3), keepdim=True), 1 + _uniform(images, self.contrast))
        if self.saturation and rgb:
            images = _blend(images, _grey(images), 1 + _uniform(images, self.saturation))
        if self.hue and rgb:
            images = _shift_hue(images, _uniform(images, self.hue))
        return images


def _uniform(images: Tensor, limit: float) -> Float[Tensor, "n 1 1 1"]:
    """Draw one number per image, uniform from -limit to limit."""
    return limit * (2 * torch.rand(len(images), 1, 1, 1, device=images.device) - 1)


def _grey(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    red, green, blue = images.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (factor * images + (1 - factor) * other).clamp(0, 1)


def _shift_hue(images: Float[Tensor, "n 3 h w"], shift: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n 3 h w"]:
    """Shift the hue by a fraction of the circle; the largest and smallest channel values are preserved."""
    red, green, blue = images.split(1, dim=1)
    value = images.amax(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    unit = torch.where(chroma > 0, chroma, 1)
    below_red = torch.where(value == green, 2 + (blue - red) / unit, 4 + (red - green) / unit)
    sixths = torch.where(value == red, (green - blue) / unit, below_red) + 6 * shift
    channels = []
    for start in (5, 3, 1):
        angle = (sixths + start) % 6
        channels.append(value - chroma * torch.minimum(angle, 4 - angle).clamp(0, 1))
    return torch.empty_like(images).copy_(torch.cat(channels, dim=1))
