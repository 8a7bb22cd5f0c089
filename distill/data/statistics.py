"""What a network has to know of its images before the first step: their mean and spread by channel."""

from __future__ import annotations

import logging

import torch
from jaxtyping import UInt8
from torch import Tensor

VALUES = 2**28  # 87,381 images of 3 x 32 x 32, 1,783 of 3 x 224 x 224
_logger = logging.getLogger(__name__)


def channel_statistics(images: UInt8[Tensor, "n c h w"]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, over all images and pixels, for images in [0, 1].

    Convention:
        - Sums are of whole numbers, so the result does not depend on the order, the machine or the batch.
        - Of a set with more than 2 ** 28 values, so many are looked at: whole images, evenly spread over the set. They
          are the same whether it lies in memory or in files.
        - The deviation is the population's: divided by the number of pixels, not by one less.

    Raises:
        ValueError: if there are no images.

    Example:
        >>> channel_statistics(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
        ((0.5,), (0.5,))
    """
    values = images.shape[1:].numel()
    if len(images) * values == 0:
        raise ValueError("`images` must hold at least one image.")
    looked_at = min(len(images), max(1, VALUES // values))
    if looked_at < len(images):
        _logger.info("mean and deviation of the channels are those of %d of %d images", looked_at, len(images))
    chosen = torch.arange(looked_at) * len(images) // looked_at
    level = torch.arange(256)
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for index in chosen.split(256):
        for channel, pixels in enumerate(images[index].unbind(1)):
            counts[channel] += torch.bincount(pixels.flatten(), minlength=256)
    n = looked_at * values // images.shape[1]
    totals = (counts * level).sum(1).tolist()
    squares = (counts * level**2).sum(1).tolist()
    means = tuple(total / (255 * n) for total in totals)
    deviations = tuple(
        (n * square - total**2) ** 0.5 / (255 * n) for total, square in zip(totals, squares, strict=True)
    )
    return means, deviations
