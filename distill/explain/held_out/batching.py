"""Helpers of the held-out methods: batches of limited size, and baseline images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.maps import at_least_float32

Baseline = Literal["black", "mean"]

#: Default limit of the images in one forward pass, including copies of an image.
ROWS = 128


def map_batches(
    explain: Callable[[Tensor, Tensor], Tensor],
    images: Float[Tensor, "n c *s"],
    classes: Int[Tensor, " n"],
    *,
    rows: int,
    copies: int = 1,
) -> Float[Tensor, "n ..."]:
    """Explain images in batches.

    Args:
        explain: Function from a batch of images and classes to attributions.
        images: Images.
        classes: The explained class of each image.
        rows: Limit of the images in one forward pass, including copies.
        copies: Number of copies of each image in one forward pass.

    Returns:
        The attributions of all images, in float32 or float64.
    """
    size = max(1, rows // copies)
    groups = zip(images.split(size), classes.split(size), strict=True)
    return torch.cat([at_least_float32(explain(*group).detach()) for group in groups])


def copies_per_batch(images: Float[Tensor, "n c *s"], *, rows: int) -> int:
    """Return how many perturbed copies of each image fit into one forward pass."""
    return max(1, rows // max(1, len(images)))


def baseline_image(images: Float[Tensor, "n c *s"], baseline: Baseline) -> Float[Tensor, "n c *s"]:
    """Return the baseline of images: an image without information.

    Convention:
        - ``black`` has pixel values of 0 before the network's input normalisation, as in the faithfulness metrics.
          ``mean`` is the mean colour of each image.

    Raises:
        ValueError: If ``baseline`` is neither ``black`` nor ``mean``.

    Example:
        >>> baseline_image(torch.tensor([[[1.0, 3.0]]]), "mean")
        tensor([[[2., 2.]]])
    """
    if baseline not in get_args(Baseline):
        raise ValueError(f"`baseline` must be one of {', '.join(get_args(Baseline))}, got {baseline!r}.")
    if baseline == "black":
        return torch.zeros_like(images)
    return images.mean(tuple(range(2, images.ndim)), keepdim=True).expand_as(images).contiguous()


def check_at_least_one(**counts: int) -> None:
    """Raise a ValueError that names an argument with a value below 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"`{name}` must be at least 1, got {count}.")
