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
    """All crops of an image padded by ``pad`` pixels, each as it is and, with ``flip``, mirrored left to right.

    Convention:
        - View ``(f * (2 pad + 1) + dy) * (2 pad + 1) + dx`` starts at row ``dy`` and column ``dx`` of the padded image,
          is as large as the image, and is mirrored afterwards if ``f`` is 1.
        - The view in the middle, ``identity``, is the image itself.

    Args:
        pad: Pixels added on every side, 0 or more.
        flip: Whether mirrored views are among them.
        padding: ``zero`` pads with black, ``reflect`` with the image mirrored at its outermost pixels.
        limit: How many of the views an image takes; which ones is a function of the seed and the image. All if None.

    Raises:
        InputError: if ``pad`` is negative, ``padding`` unknown, or ``limit`` not from 1 to all views.

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
            raise InputError(f"`views` must be from 1 to {self.count}, all there are; got {self.limit}.")

    @property
    def shifts(self) -> int:
        """Positions that a crop can take along one axis."""
        return 2 * self.pad + 1

    @property
    def count(self) -> int:
        """Number of views."""
        return self.shifts**2 * (2 if self.flip else 1)

    @property
    def identity(self) -> int:
        """The view that is the image itself."""
        return self.pad * self.shifts + self.pad

    def draw(self, n: int, *, seed: int, epoch: int) -> Int64[Tensor, " n"]:
        """Give each of ``n`` images its view for an epoch.

        Convention:
            - Element ``i`` is a function of ``seed``, ``epoch`` and ``i``: neither the order of training, nor ``n``,
              nor a resumed run changes it.

        Example:
            >>> Views().draw(3, seed=0, epoch=1).tolist() == Views().draw(9, seed=0, epoch=1).tolist()[:3]
            True
        """
        words = random_stream(Purpose.VIEW, seed=seed, part=epoch).random_raw(n)
        if self.limit is None or self.limit == self.count:
            return torch.from_numpy(integers_below(words, self.count))
        chosen = _choose(n, self.count, self.limit, seed)
        return torch.from_numpy(chosen[np.arange(n), integers_below(words, self.limit)])

    def decode(self, view: Int64[Tensor, " n"]) -> tuple[Tensor, Tensor, Tensor]:
        """Split view numbers into first row, first column, and whether the crop is mirrored."""
        rest = view % self.shifts**2
        return rest // self.shifts, rest % self.shifts, view >= self.shifts**2

    def crop(self, images: Num[Tensor, "n c h w"], view: Int64[Tensor, " n"]) -> Num[Tensor, "n c h w"]:
        """Take one view of each image and keep the type; masks go through it as images of one channel.

        Raises:
            InputError: if ``padding`` is ``reflect`` and the image is no larger than ``pad``.
        """
        if self.count == 1:
            return images
        n, channels, height, width = images.shape
        if self.padding == "reflect" and self.pad >= min(height, width):
            raise InputError(f"`pad` must be below the image's side to reflect, got {self.pad} for {height} x {width}.")
        top, left, mirrored = (part[:, None] for part in self.decode(view))
        rows = torch.arange(height, device=images.device) + top
        columns = torch.arange(width, device=images.device)
        columns = torch.where(mirrored, width - 1 - columns, columns) + left
        if self.padding == "zero":
            images = F.pad(images, [self.pad] * 4)
        else:
            rows, columns = _reflect(rows - self.pad, height), _reflect(columns - self.pad, width)
        pixels = rows[:, :, None] * images.shape[3] + columns[:, None, :]
        pixels = pixels.view(n, 1, height * width).expand(n, channels, height * width)
        return images.flatten(2).gather(2, pixels).view(n, channels, height, width)

    def apply(self, images: Num[Tensor, "n c h w"], view: Int64[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Take one view of each image, as float in [0, 1] and in ``channels_last`` layout.

        Convention:
            - One batch of index arithmetic on whatever device the images are on, with no wait for it.
            - uint8 is divided by 255; float is taken to be in [0, 1] already.

        Args:
            images: uint8, or float in [0, 1].
            view: A number from 0 to ``count`` - 1 for each of them.
        """
        return to_unit(self.crop(images, view))


@functools.lru_cache(maxsize=2)
def _choose(n: int, count: int, limit: int, seed: int) -> NDArray[np.int64]:
    """Choose for each image so many of its views, (n, limit); the first images are the same for every ``n``."""
    source = random_stream(Purpose.VIEW_CHOICE, seed=seed)
    parts = [
        np.argsort(source.random_raw(rows * count).reshape(rows, count), axis=1, kind="stable")[:, :limit]
        for rows in (min(_ROWS, n - start) for start in range(0, n, _ROWS))
    ]
    return np.concatenate(parts).astype(np.int64)


def to_unit(images: Num[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Turn uint8 images into float32 in [0, 1], float ones as they are, both in ``channels_last`` layout.

    Example:
        >>> to_unit(torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8))
        tensor([[[[0.0000, 0.2000, 1.0000]]]])
    """
    if images.is_floating_point():
        return images.contiguous(memory_format=torch.channels_last)
    return images.to(torch.float32, memory_format=torch.channels_last).div_(255)


def _reflect(position: Int64[Tensor, "n s"], length: int) -> Int64[Tensor, "n s"]:
    return length - 1 - (length - 1 - position.abs()).abs()


_MOST = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}


@dataclass(frozen=True)
class ColourJitter:
    """Change brightness, contrast, saturation and hue of every image by amounts of its own, in this order.

    Convention:
        - A factor is uniform in [1 - x, 1 + x], a turn of the hue in [-x, x], both drawn from torch's generator: what a
          network saw is no whole number, so its answers cannot be kept by image and view.
        - Contrast blends with the image's mean grey, saturation with its own grey (ITU-R 601); results are clipped.
        - Hue is that of HSV, of which 1 is the whole circle.
        - Torchvision's ``ColorJitter`` has these meanings, but one amount for the whole batch and a random order.

    Args:
        brightness: From 0, which leaves it, to 1.
        contrast: Likewise.
        saturation: Likewise; only images of three channels have any.
        hue: From 0, which leaves it, to 0.5; only images of three channels have any.

    Raises:
        InputError: if one is outside.

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
        for name, most in _MOST.items():
            if not 0 <= getattr(self, name) <= most:
                raise InputError(f"`{name}` must be from 0 to {most:g}, got {getattr(self, name)}.")

    def __call__(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Change images in [0, 1]; their layout in memory stays."""
        coloured = images.shape[1] == 3
        if self.brightness:
            images = (images * (1 + _spread(images, self.brightness))).clamp(0, 1)
        if self.contrast:
            images = _blend(images, _grey(images).mean((1, 2, 3), keepdim=True), 1 + _spread(images, self.contrast))
        if self.saturation and coloured:
            images = _blend(images, _grey(images), 1 + _spread(images, self.saturation))
        if self.hue and coloured:
            images = _turn_hue(images, _spread(images, self.hue))
        return images


def _spread(images: Tensor, width: float) -> Float[Tensor, "n 1 1 1"]:
    return width * (2 * torch.rand(len(images), 1, 1, 1, device=images.device) - 1)


def _grey(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    red, green, blue = images.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (factor * images + (1 - factor) * other).clamp(0, 1)


def _turn_hue(images: Float[Tensor, "n 3 h w"], turn: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n 3 h w"]:
    """Turn the hue by parts of the circle; brightest and darkest channel keep their values."""
    red, green, blue = images.split(1, dim=1)
    value = images.amax(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    unit = torch.where(chroma > 0, chroma, 1)
    below_red = torch.where(value == green, 2 + (blue - red) / unit, 4 + (red - green) / unit)
    sixths = torch.where(value == red, (green - blue) / unit, below_red) + 6 * turn
    channels = []
    for start in (5, 3, 1):
        place = (sixths + start) % 6
        channels.append(value - chroma * torch.minimum(place, 4 - place).clamp(0, 1))
    return torch.empty_like(images).copy_(torch.cat(channels, dim=1))
