"""Agreement of two networks' maps of the same images: cosine, correlation, SSIM, overlap, Jensen-Shannon."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill.maps import normalize_maps
from distill.metrics.base import MeanScore, check_same_size, gaussian_blur, is_empty, wide


def map_pearson(maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    r"""Pearson's correlation over the pixels, :math:`\cos(a - \bar a, b - \bar b)`.

    Convention:
        - From -1 to 1; neither scale nor shift of a map matters.
        - NaN (no score) where either map is the same everywhere, zero or not.

    Args:
        maps: Of the network that is judged; of any sign.
        reference_maps: Of the network that it is compared with, in the same size.

    Returns:
        A score for every image.

    Raises:
        ValueError: if the sizes differ.

    Example:
        >>> one = torch.tensor([[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]])
        >>> map_pearson(one, torch.tensor([[1.0, 3.0, 2.0], [1.0, 0.0, 0.0]]))
        tensor([0.5000,    nan])
    """
    check_same_size(maps, reference_maps)
    # On [0, 1]: what is constant becomes zero exactly, and squares of small maps do not underflow.
    one, other = normalize_maps(maps, "min_max").flatten(1), normalize_maps(reference_maps, "min_max").flatten(1)
    constant = is_empty(one) | is_empty(other)
    one, other = one - one.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
    lengths = (one.square().sum(1) * other.square().sum(1)).sqrt()
    correlation = (one * other).sum(1) / torch.where(constant, 1.0, lengths)
    return torch.where(constant, torch.nan, correlation.clamp(-1.0, 1.0))


def map_spearman(maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    """Spearman's correlation: Pearson's of the pixels' ranks.

    Convention:
        - Equal pixels share the mean of their ranks.
        - NaN (no score) where either map is the same everywhere, zero or not.

    Args:
        maps: Of the network that is judged; of any sign.
        reference_maps: Of the network that it is compared with, in the same size.

    Returns:
        A score for every image, from -1 to 1.

    Raises:
        ValueError: if the sizes differ.

    References:
        Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3 (rank correlation of maps).

    Example:
        >>> map_spearman(torch.tensor([[1.0, 2.0, 9.0, 9.0]]), torch.tensor([[0.1, 0.2, 0.3, 0.4]]))
        tensor([0.9487])
    """
    check_same_size(maps, reference_maps)
    return map_pearson(average_ranks(maps), average_ranks(reference_maps))


def average_ranks(maps: Float[Tensor, "n *s"]) -> Float[Tensor, "n p"]:
    """Rank of every pixel in its own map from 0, flattened; equal ones share the mean. NaN in a map with any NaN.

    Example:
        >>> average_ranks(torch.tensor([[5.0, 1.0, 5.0, 7.0]]))
        tensor([[1.5000, 0.0000, 1.5000, 3.0000]])
    """
    ordered, pixels = maps.flatten(1).sort(1)
    place = torch.arange(ordered.shape[1], device=maps.device).expand_as(ordered)
    differs = ordered[:, 1:] != ordered[:, :-1]
    edge = torch.ones_like(differs[:, :1])
    first = torch.where(torch.cat([edge, differs], 1), place, 0).cummax(1).values
    last = torch.where(torch.cat([differs, edge], 1), place, place.shape[1]).flip(1).cummin(1).values.flip(1)
    shared = (first + last).to(torch.promote_types(maps.dtype, torch.float32)) / 2
    ranks = torch.empty_like(shared).scatter_(1, pixels, shared)
    return torch.where(ordered.isnan().any(1, keepdim=True), torch.nan, ranks)


def map_top_iou(
    maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"], *, share: float = 0.2
) -> Float[Tensor, " n"]:
    """Pixels that are among the highest of both maps, over those that are among the highest of either.

    Convention:
        - As many pixels are taken of both: ``share`` of them, rounded to the nearest number, at least one.
        - Of equal pixels the first in row-major order are taken (a stable descending order). A map with fewer pixels
          above zero than are taken is filled up in this way.
        - Two unrelated orders overlap by share / (2 - share): 0.11 at 0.2.
        - NaN (no score) where either map is zero everywhere.

    Args:
        maps: Of the network that is judged, not negative.
        reference_maps: Of the network that it is compared with, in the same size.
        share: Of the pixels, above 0 and at most 1.

    Returns:
        A score from 0 to 1 for every image.

    Raises:
        ValueError: if the sizes differ or ``share`` is out of its range.

    Example:
        >>> map_top_iou(torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.tensor([[1.0, 9.0, 8.0, 0.0]]), share=0.5)
        tensor([0.3333])
    """
    check_same_size(maps, reference_maps)
    if not 0 < share <= 1:
        raise ValueError(f"`share` must be above 0 and at most 1, got {share}.")
    one, other = normalize_maps(maps, "max").flatten(1), normalize_maps(reference_maps, "max").flatten(1)
    count = max(int(share * one.shape[1] + 0.5), 1)
    common = (_highest(one, count) & _highest(other, count)).sum(1).to(one.dtype)
    no_score = is_empty(one) | is_empty(other) | one.isnan().any(1) | other.isnan().any(1)
    return torch.where(no_score, torch.nan, common / (2 * count - common))


def map_jensen_shannon(maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    r"""Jensen-Shannon divergence of two maps as distributions over the pixels.

    :math:`(\mathrm{KL}(p\,\|\,m) + \mathrm{KL}(q\,\|\,m)) / 2` with :math:`m = (p + q) / 2`.

    Convention:
        - In bits: 0 for maps that differ by a factor only, 1 for maps without a pixel in common.
        - NaN (no score) where either map is zero everywhere.

    Args:
        maps: Of the network that is judged, not negative.
        reference_maps: Of the network that it is compared with, in the same size.

    Returns:
        A score from 0 to 1 for every image; lower is more alike.

    Raises:
        ValueError: if the sizes differ.

    References:
        Lin, "Divergence Measures Based on the Shannon Entropy", IEEE Transactions on Information Theory, 1991.

    Example:
        >>> map_jensen_shannon(torch.tensor([[1.0, 1.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 5.0]]))
        tensor([0.3113, 1.0000])
    """
    check_same_size(maps, reference_maps)
    p, q = normalize_maps(maps, "sum").flatten(1), normalize_maps(reference_maps, "sum").flatten(1)
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return torch.where(is_empty(p) | is_empty(q), torch.nan, divergence.clamp(0.0, 1.0))


def _highest(maps: Float[Tensor, "n p"], count: int) -> Bool[Tensor, "n p"]:
    """Tell which pixels come first in the stable descending order, without sorting them."""
    least = maps.topk(count, 1, sorted=False).values.amin(1, keepdim=True)
    above, equal = maps > least, maps == least
    wanted = count - above.sum(1, keepdim=True)
    return above | (equal & (equal.cumsum(1) <= wanted))


def _relative_entropy(p: Tensor, middle: Tensor) -> Tensor:
    """Give KL(p || middle) in bits; 0 log 0 is 0."""
    nothing = p == 0
    ratio = torch.where(nothing, 1.0, p) / torch.where(nothing, 1.0, middle)
    return torch.where(nothing, 0.0, p * ratio.log2()).sum(1)


_SSIM_SIGMA, _SSIM_RADIUS = 1.5, 5
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
    check_same_size(maps, reference_maps)
    one, other = normalize_maps(maps, "max"), normalize_maps(reference_maps, "max")
    empty = is_empty(one) | is_empty(other)
    a, b = one.double(), other.double()
    mean_a, mean_b, square_a, square_b, product = (
        gaussian_blur(part, sigma=_SSIM_SIGMA, radius=_SSIM_RADIUS) for part in (a, b, a * a, b * b, a * b)
    )
    spread = (square_a - mean_a**2).clamp(min=0.0) + (square_b - mean_b**2).clamp(min=0.0)
    luminance = (2 * mean_a * mean_b + _LUMINANCE) / (mean_a**2 + mean_b**2 + _LUMINANCE)
    structure = (2 * (product - mean_a * mean_b) + _CONTRAST) / (spread + _CONTRAST)
    similarity = (luminance * structure).flatten(1).mean(1)
    return torch.where(empty, torch.nan, similarity).to(wide(maps).dtype)


def map_cosine(maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    r"""Cosine of the angle between two maps of an image, :math:`\langle a, b\rangle / (\|a\| \|b\|)`.

    Convention:
        - Maps are not negative, so the cosine lies in [0, 1]; their scale does not matter.
        - NaN (no score) where either map is zero everywhere: there is nothing to compare.
        - Two maps of any kind share a centre bias, so unrelated ones are far above 0.

    Args:
        maps: Of the network that is judged.
        reference_maps: Of the network that it is compared with, in the same size; see
            :func:`distill.maps.resize_maps`.

    Returns:
        A score for every image.

    Raises:
        ValueError: if the sizes differ.

    Example:
        >>> map_cosine(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[4.0, 3.0], [1.0, 1.0]]))
        tensor([0.9600,    nan])
    """
    check_same_size(maps, reference_maps)
    one, other = normalize_maps(maps, "l2").flatten(1), normalize_maps(reference_maps, "l2").flatten(1)
    return torch.where(is_empty(one) | is_empty(other), torch.nan, (one * other).sum(1).clamp(max=1.0))


#: Measure by name.
MEASURES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": map_cosine,
    "pearson": map_pearson,
    "spearman": map_spearman,
    "ssim": map_ssim,
    "top_iou": map_top_iou,
    "jensen_shannon": map_jensen_shannon,
}


class MapAgreement(MeanScore):
    """Mean agreement of two networks' maps; images on which a map is empty are excluded and counted.

    Args:
        measure: One of :data:`MEASURES`: ``cosine``, ``pearson``, ``spearman``, ``ssim``, ``top_iou`` (of the highest
            fifth of the pixels), or ``jensen_shannon``, the only one of which less is better.
        kwargs: What every torchmetrics metric takes.

    Raises:
        ValueError: if there is no such measure.

    Example:
        >>> metric = MapAgreement(measure="cosine")
        >>> metric.update(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[4.0, 3.0], [1.0, 1.0]]))
        >>> metric.compute()
        Measurement(value=tensor(0.9600, dtype=torch.float64), n=tensor(1), excluded=tensor(1))
    """

    def __init__(self, *, measure: str = "cosine", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if measure not in MEASURES:
            raise ValueError(f"`measure` must be one of {', '.join(MEASURES)}, got {measure!r}.")
        self.measure = measure

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]  # a divergence is better lower, the others higher
        """Tell which direction is better."""
        return self.measure != "jensen_shannon"

    def update(  # type: ignore[override]  # torchmetrics: every metric has arguments of its own
        self, maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"]
    ) -> None:
        """Add a batch of maps of equal size."""
        self._add(MEASURES[self.measure](maps, reference_maps))
