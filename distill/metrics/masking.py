"""Images of which only a part is left, and what stands in for the rest."""

from __future__ import annotations

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

from distill.metrics.inputs import shown
from distill.metrics.smoothing import smooth

Baseline = Literal["zero", "blur"]

_SIGMA, _RADIUS = 5.0, 5


def baseline_images(images: Float[Tensor, "n c *s"], baseline: Baseline) -> Float[Tensor, "n c *s"]:
    """Give what stands in for the pixels that are taken away.

    Convention:
        - ``zero``: black, before a network scales its input by its own mean and deviation.
        - ``blur``: the image through a Gaussian window of 11 pixels an axis and sigma 5; the border is reflected.

    Args:
        images: In [0, 1].
        baseline: One of the two names above.

    Raises:
        ValueError: if ``baseline`` is neither.

    References:
        Petsiuk et al., "RISE", BMVC 2018, section 4.3: zero for deletion, blur for insertion, with this window.

    Example:
        >>> import torch
        >>> baseline_images(torch.tensor([[[0.0, 0.5, 1.0]]]), "blur")
        tensor([[[0.4669, 0.5000, 0.5331]]])
    """
    if baseline not in get_args(Baseline):
        raise ValueError(f"`baseline` must be one of {', '.join(get_args(Baseline))}, got {baseline!r}.")
    if baseline == "zero":
        return images.new_zeros(()).expand_as(images)
    return smooth(images.flatten(0, 1), sigma=_SIGMA, radius=_RADIUS).view_as(images).to(images.dtype)


def mask_images(
    images: Float[Tensor, "n c *s"], maps: Float[Tensor, "n *t"], *, baseline: Baseline = "zero"
) -> Float[Tensor, "n c *s"]:
    """Leave of every image what its map shows: map x image + (1 - map) x baseline.

    Convention:
        - Raw map, relu, linear (``align_corners=False``) to the images' size, divided by its maximum.
        - Where a map is zero everywhere the baseline alone is left; where it holds a NaN, NaN.

    Args:
        images: In [0, 1].
        maps: In any size and scale, one an image.
        baseline: See :func:`baseline_images`; ``zero`` is the paper's.

    Returns:
        Images of the same shape and precision.

    Raises:
        ValueError: if there is not one map an image, or ``baseline`` is unknown.

    References:
        Chattopadhyay et al., WACV 2018, section 4.1.

    Example:
        >>> import torch
        >>> mask_images(torch.tensor([[[[0.5, 1.0, 0.5]]]]), torch.tensor([[[2.0, 1.0, 0.0]]]))
        tensor([[[[0.5000, 0.5000, 0.0000]]]])
    """
    one_map_an_image(images, maps)
    weights = shown(maps, images.shape[2:], "max")[:, None].to(images.dtype)
    return weights * images + (1 - weights) * baseline_images(images, baseline)


def one_map_an_image(images: Float[Tensor, "n c *s"], maps: Float[Tensor, "m *t"]) -> None:
    """Refuse maps that are not of these images."""
    if len(images) != len(maps):
        raise ValueError(f"there must be one map an image, got {len(maps)} maps for {len(images)} images.")
