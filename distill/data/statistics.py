"""What a network has to know of its images before the first step: their mean and spread by channel."""

from __future__ import annotations

import torch
from jaxtyping import UInt8
from torch import Tensor

from distill.data.decoded import DecodedImages

SAMPLE = 4096


def channel_statistics(images: UInt8[Tensor, "n c h w"]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, over all images and pixels, for images in [0, 1].

    Convention:
        - Sums are of whole numbers, so the result does not depend on the order, the machine or the batch.
        - Of images that stay in their files, 4,096 are looked at, evenly spread over the set.
        - The deviation is the population's: divided by the number of pixels, not by one less.

    Raises:
        ValueError: if there are no images.

    Example:
        >>> channel_statistics(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
        ((0.5,), (0.5,))
    """
    held: object = images
    if isinstance(held, DecodedImages):
        images = held.sample(SAMPLE)
    if images.numel() == 0:
        raise ValueError("`images` must hold at least one image.")
    level = torch.arange(256)
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for part in images.split(1024):
        for channel, pixels in enumerate(part.unbind(1)):
            counts[channel] += torch.bincount(pixels.flatten(), minlength=256)
    n = images.numel() // images.shape[1]
    totals = (counts * level).sum(1).tolist()
    squares = (counts * level**2).sum(1).tolist()
    means = tuple(total / (255 * n) for total in totals)
    deviations = tuple(
        (n * square - total**2) ** 0.5 / (255 * n) for total, square in zip(totals, squares, strict=True)
    )
    return means, deviations
