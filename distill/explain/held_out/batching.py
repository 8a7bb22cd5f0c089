"""What held-out explainers share: a bound on the rows that pass the network at once, and an image of nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.explain.cam import wide

Baseline = Literal["black", "mean"]

#: Rows that pass the network at once, copies of an image included.
ROWS = 128


def map_batches(
    explain: Callable[[Tensor, Tensor], Tensor],
    images: Float[Tensor, "n c *s"],
    classes: Int[Tensor, " n"],
    *,
    rows: int,
    copies: int = 1,
) -> Float[Tensor, "n ..."]:
    """Explain so many images at a time that, with their copies, at most so many rows pass the network."""
    size = max(1, rows // copies)
    groups = zip(images.split(size), classes.split(size), strict=True)
    return torch.cat([wide(explain(*group).detach()) for group in groups])


def copies_per_batch(images: Float[Tensor, "n c *s"], *, rows: int) -> int:
    """Count the changed copies of every one of these images that may pass the network at once."""
    return max(1, rows // max(1, len(images)))


def baseline_image(images: Float[Tensor, "n c *s"], baseline: Baseline) -> Float[Tensor, "n c *s"]:
    """Make what stands for an image that shows nothing.

    Convention:
        - ``black`` is 0 in the pixels, before the network's own normalisation: the metrics of faithfulness darken
          images to the same. ``mean`` is the image's own mean colour.

    Raises:
        ValueError: if it is neither.

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
    """Raise a ValueError that names what is below 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"`{name}` must be at least 1, got {count}.")
