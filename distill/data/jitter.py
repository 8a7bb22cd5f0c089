"""Colours that change at random."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distill.errors import InputError


@dataclass(frozen=True)
class ColourJitter:
    """Change brightness, contrast and saturation of every image by factors of its own, in this order.

    Convention:
        - A factor is uniform in [1 - x, 1 + x], drawn from torch's generator: what a network saw is no whole number,
          so its answers cannot be kept by image and view.
        - Contrast blends with the image's mean grey, saturation with its own grey (ITU-R 601); results are clipped.

    Args:
        brightness: From 0, which leaves it, to 1.
        contrast: Likewise.
        saturation: Likewise; only images of three channels have any.

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

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"`{name}` must be from 0 to 1, got {getattr(self, name)}.")

    def __call__(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Change images in [0, 1]."""
        if self.brightness:
            images = (images * self._factor(images, self.brightness)).clamp(0, 1)
        if self.contrast:
            images = _blend(images, _grey(images).mean((1, 2, 3), keepdim=True), self._factor(images, self.contrast))
        if self.saturation and images.shape[1] == 3:
            images = _blend(images, _grey(images), self._factor(images, self.saturation))
        return images

    def _factor(self, images: Tensor, spread: float) -> Tensor:
        return 1 + spread * (2 * torch.rand(len(images), 1, 1, 1, device=images.device) - 1)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (factor * images + (1 - factor) * other).clamp(0, 1)
