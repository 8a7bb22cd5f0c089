"""Structural similarity of two maps of an image."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from distill.maps import normalize_maps
from distill.metrics.inputs import is_empty, same_size, wide
from distill.metrics.smoothing import smooth

_SIGMA, _RADIUS = 1.5, 5
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2


def map_ssim(maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    r"""Structural similarity of two maps, on average over the pixels.

    :math:`\frac{(2\mu_a\mu_b + c_1)(2\sigma_{ab} + c_2)}{(\mu_a^2 + \mu_b^2 + c_1)(\sigma_a^2 + \sigma_b^2 + c_2)}`.

    Convention:
        - Both maps are divided by their maximum, so the range is 1: c_1 = 0.01^2, c_2 = 0.03^2.
        - A Gaussian window of 11 pixels an axis and sigma 1.5 at every pixel; the border is reflected, as often as
          it takes where a map is smaller than the window. Maps of a few pixels are therefore compared more by their
          level than by their structure: resize them to the images' size first.
        - NaN (no score) where either map is zero everywhere.

    Args:
        maps: Of the network that is judged, not negative.
        reference_maps: Of the network that it is compared with, in the same size.

    Returns:
        A score for every image, at most 1.

    Raises:
        ValueError: if the sizes differ.

    References:
        Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", TIP 2004.

    Example:
        >>> maps = torch.eye(8)[None]
        >>> map_ssim(maps, 3 * maps), map_ssim(maps, maps.flip(1))
        (tensor([1.]), tensor([-0.0623]))
    """
    same_size(maps, reference_maps)
    one, other = normalize_maps(maps, "max"), normalize_maps(reference_maps, "max")
    empty = is_empty(one) | is_empty(other)
    a, b = one.double(), other.double()
    mean_a, mean_b, square_a, square_b, product = (
        smooth(part, sigma=_SIGMA, radius=_RADIUS) for part in (a, b, a * a, b * b, a * b)
    )
    spread = (square_a - mean_a**2).clamp(min=0.0) + (square_b - mean_b**2).clamp(min=0.0)
    luminance = (2 * mean_a * mean_b + _LUMINANCE) / (mean_a**2 + mean_b**2 + _LUMINANCE)
    structure = (2 * (product - mean_a * mean_b) + _CONTRAST) / (spread + _CONTRAST)
    similarity = (luminance * structure).flatten(1).mean(1)
    return torch.where(empty, torch.nan, similarity).to(wide(maps).dtype)
