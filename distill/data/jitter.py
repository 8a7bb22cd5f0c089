"""Colours that change at random."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distill.errors import InputError

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
