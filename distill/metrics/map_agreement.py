"""Similarity of two networks' maps of the same images: cosine, correlation, SSIM, top IoU, Jensen-Shannon."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill.maps import at_least_float32, normalize_maps
from distill.metrics.common import MeanScore, check_same_size, gaussian_blur, is_empty, sort_pixels, sort_values


def map_pearson(maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    r"""Pearson correlation over the pixels, :math:`\cos(a - \bar a, b - \bar b)`.

    Convention:
        - From -1 to 1; invariant to scale and shift of a map.
        - NaN (no score) if either map is constant.

    Args:
        maps: Maps of the evaluated network; may be negative.
        reference_maps: Maps of the reference network, in the same size.

    Returns:
        One score per image.

    Raises:
        ValueError: if the sizes differ.

    Example:
        >>> maps = torch.tensor([[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]])
        >>> map_pearson(maps, torch.tensor([[1.0, 3.0, 2.0], [1.0, 0.0, 0.0]]))
        tensor([0.5000,    nan])
    """
    check_same_size(maps, reference_maps)
    # Scaled to [0, 1], constant maps become exactly zero and squares of small maps do not underflow.
    a, b = normalize_maps(maps, "min_max").flatten(1), normalize_maps(reference_maps, "min_max").flatten(1)
    constant = is_empty(a) | is_empty(b)
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    norms = (a.square().sum(1) * b.square().sum(1)).sqrt()
    correlation = (a * b).sum(1) / torch.where(constant, 1.0, norms)
    return torch.where(constant, torch.nan, correlation.clamp(-1.0, 1.0))


def map_spearman(maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    """Spearman rank correlation: the Pearson correlation of the pixels' ranks.

    Convention:
        - Equal pixels get the mean of their ranks.
        - NaN (no score) if either map is constant.

    Args:
        maps: Maps of the evaluated network; may be negative.
        reference_maps: Maps of the reference network, in the same size.

    Returns:
        One score per image, from -1 to 1.

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
    """Return the rank of each pixel in its map, from 0; equal pixels get the mean rank. All NaN if a map contains NaN.

    Example:
        >>> average_ranks(torch.tensor([[5.0, 1.0, 5.0, 7.0]]))
        tensor([[1.5000, 0.0000, 1.5000, 3.0000]])
    """
    ordered, pixels = sort_pixels(maps.flatten(1))
    rank = torch.arange(ordered.shape[1], dtype=torch.int32, device=maps.device).expand_as(ordered)
    differs = ordered[:, 1:] != ordered[:, :-1]
    edge = torch.ones_like(differs[:, :1])
    first = torch.where(torch.cat([edge, differs], 1), rank, 0).cummax(1).values
    last = torch.where(torch.cat([differs, edge], 1), rank, rank.shape[1]).flip(1).cummin(1).values.flip(1)
    mean_rank = (first + last).to(torch.promote_types(maps.dtype, torch.float32)) / 2
    ranks = torch.empty_like(mean_rank).scatter_(1, pixels, mean_rank)
    return torch.where(ordered.isnan().any(1, keepdim=True), torch.nan, ranks)


def map_top_iou(
    maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"], *, share: float = 0.2
) -> Float[Tensor, " n"]:
    """Intersection over union of the highest pixels of two maps.

    Convention:
        - The same number of pixels is selected in both maps: ``share`` of them, rounded to the nearest integer, at
          least one.
        - Of equal pixels, the first in row-major order are selected (stable descending order), also zeros if a map has
          too few pixels above zero.
        - For unrelated maps the expected score is about share / (2 - share): 0.11 at 0.2.
        - NaN (no score) if either map is zero everywhere.

    Args:
        maps: Maps of the evaluated network, not negative.
        reference_maps: Maps of the reference network, in the same size.
        share: Share of the pixels that is selected, above 0 and at most 1.

    Returns:
        One score per image, from 0 to 1.

    Raises:
        ValueError: if the sizes differ, or ``share`` is out of range.

    Example:
        >>> map_top_iou(torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.tensor([[1.0, 9.0, 8.0, 0.0]]), share=0.5)
        tensor([0.3333])
    """
    check_same_size(maps, reference_maps)
    if not 0 < share <= 1:
        raise ValueError(f"`share` must be above 0 and at most 1, got {share}.")
    a, b = normalize_maps(maps, "max").flatten(1), normalize_maps(reference_maps, "max").flatten(1)
    count = max(int(share * a.shape[1] + 0.5), 1)
    common = (_highest(a, count) & _highest(b, count)).sum(1).to(a.dtype)
    no_score = is_empty(a) | is_empty(b) | a.isnan().any(1) | b.isnan().any(1)
    return torch.where(no_score, torch.nan, common / (2 * count - common))


def map_jensen_shannon(maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    r"""Jensen-Shannon divergence of two maps as distributions over the pixels.

    :math:`(\mathrm{KL}(p\,\|\,m) + \mathrm{KL}(q\,\|\,m)) / 2` with :math:`m = (p + q) / 2`.

    Convention:
        - In bits: 0 for maps that are equal up to scale, 1 for maps that do not overlap.
        - NaN (no score) if either map is zero everywhere.

    Args:
        maps: Maps of the evaluated network, not negative.
        reference_maps: Maps of the reference network, in the same size.

    Returns:
        One score per image, from 0 to 1; lower is more similar.

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
    """Return which pixels are the first ``count`` in stable descending order."""
    threshold = sort_values(maps)[:, -count, None]
    above, equal = maps > threshold, maps == threshold
    remaining = count - above.sum(1, keepdim=True)
    return above | (equal & (equal.cumsum(1) <= remaining))


def _relative_entropy(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p || q) in bits, with 0 log 0 = 0."""
    zero = p == 0
    ratio = torch.where(zero, 1.0, p) / torch.where(zero, 1.0, q)
    return torch.where(zero, 0.0, p * ratio.log2()).sum(1)


_SSIM_SIGMA, _SSIM_RADIUS = 1.5, 5
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2


def map_ssim(maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    r"""Structural similarity (SSIM) of two maps, averaged over the pixels.

    :math:`\frac{(2\mu_a\mu_b + c_1)(2\sigma_{ab} + c_2)}{(\mu_a^2 + \mu_b^2 + c_1)(\sigma_a^2 + \sigma_b^2 + c_2)}`.

    Convention:
        - Both maps are divided by their maximum, so the data range is 1: c_1 = 0.01^2, c_2 = 0.03^2.
        - The window is Gaussian with 11 pixels per axis and sigma 1.5. The border is reflected, several times if a map
          is smaller than the window. For maps of few pixels the score therefore reflects their mean level more than
          their structure; resize them to the images first.
        - NaN (no score) if either map is zero everywhere.

    Args:
        maps: Maps of the evaluated network, not negative.
        reference_maps: Maps of the reference network, in the same size.

    Returns:
        One score per image, at most 1.

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
    a, b = normalize_maps(maps, "max"), normalize_maps(reference_maps, "max")
    empty = is_empty(a) | is_empty(b)
    a, b = a.double(), b.double()
    mean_a, mean_b, squares, product = (
        gaussian_blur(part, sigma=_SSIM_SIGMA, radius=_SSIM_RADIUS) for part in (a, b, a * a + b * b, a * b)
    )
    mean_squares, mean_product = mean_a * mean_a + mean_b * mean_b, mean_a * mean_b
    luminance = (2 * mean_product + _LUMINANCE) / (mean_squares + _LUMINANCE)
    structure = (2 * (product - mean_product) + _CONTRAST) / ((squares - mean_squares).clamp(min=0.0) + _CONTRAST)
    similarity = (luminance * structure).flatten(1).mean(1)
    return torch.where(empty, torch.nan, similarity).to(at_least_float32(maps).dtype)


def map_cosine(maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    r"""Cosine similarity of two maps, :math:`\langle a, b\rangle / (\|a\| \|b\|)`.

    Convention:
        - Maps are not negative, so the cosine is in [0, 1]; invariant to scale.
        - NaN (no score) if either map is zero everywhere.
        - Maps share a centre bias, so the cosine of unrelated maps is far above 0.

    Args:
        maps: Maps of the evaluated network, not negative.
        reference_maps: Maps of the reference network, in the same size; see :func:`distill.maps.resize_maps`.

    Returns:
        One score per image.

    Raises:
        ValueError: if the sizes differ.

    Example:
        >>> map_cosine(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[4.0, 3.0], [1.0, 1.0]]))
        tensor([0.9600,    nan])
    """
    check_same_size(maps, reference_maps)
    a, b = normalize_maps(maps, "l2").flatten(1), normalize_maps(reference_maps, "l2").flatten(1)
    return torch.where(is_empty(a) | is_empty(b), torch.nan, (a * b).sum(1).clamp(max=1.0))


#: Similarity measures by name.
MEASURES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": map_cosine,
    "pearson": map_pearson,
    "spearman": map_spearman,
    "ssim": map_ssim,
    "top_iou": map_top_iou,
    "jensen_shannon": map_jensen_shannon,
}


class MapAgreement(MeanScore):
    """Mean similarity of two networks' maps; images without a score are excluded and counted.

    Args:
        measure: One of :data:`MEASURES`: ``cosine``, ``pearson``, ``spearman``, ``ssim``, ``top_iou`` (of the highest
            20 % of the pixels), or ``jensen_shannon``, the only one for which lower is better.
        kwargs: Keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: if ``measure`` is unknown.

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
    def higher_is_better(self) -> bool:  # type: ignore[override]  # a constant in torchmetrics
        """Whether higher values are better: false only for ``jensen_shannon``."""
        return self.measure != "jensen_shannon"

    def update(  # type: ignore[override]  # in torchmetrics each metric has its own arguments
        self, maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *s"]
    ) -> None:
        """Add a batch of maps; both must have the same size."""
        self._add(MEASURES[self.measure](maps, reference_maps))
