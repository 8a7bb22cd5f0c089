"""Masked images, and deletion and insertion curves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.metrics.base import MeanScore, gaussian_blur, is_empty, resize_and_normalize, wide

Baseline = Literal["zero", "blur"]

_BLUR_SIGMA, _BLUR_RADIUS = 5.0, 5


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
    return gaussian_blur(images.flatten(0, 1), sigma=_BLUR_SIGMA, radius=_BLUR_RADIUS).view_as(images).to(images.dtype)


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
    check_one_map_per_image(images, maps)
    weights = resize_and_normalize(maps, images.shape[2:], "max")[:, None].to(images.dtype)
    return weights * images + (1 - weights) * baseline_images(images, baseline)


def check_one_map_per_image(images: Float[Tensor, "n c *s"], maps: Float[Tensor, "m *t"]) -> None:
    """Refuse maps that are not of these images."""
    if len(images) != len(maps):
        raise ValueError(f"there must be one map an image, got {len(maps)} maps for {len(images)} images.")


Mode = Literal["deletion", "insertion"]


class Curves(NamedTuple):
    """The probability of every image after every step, and the share of the pixels that was changed by then."""

    fractions: Float[Tensor, " points"]
    scores: Float[Tensor, "n points"]


def perturbation_curves(
    score: Callable[[Tensor, Tensor], Tensor],
    images: Float[Tensor, "n c *s"],
    maps: Float[Tensor, "n *t"],
    *,
    mode: Mode,
    steps: int = 16,
    baseline: Baseline = "zero",
    images_at_a_time: int = 256,
) -> Curves:
    """Follow the probability of one class while pixels go (deletion) or come (insertion).

    Convention:
        - Raw map, relu, linear (``align_corners=False``) to the images' size; pixels in its descending order, of
          equal ones the first in row-major order; all channels of a pixel together.
        - Deletion begins with the image and ends with the baseline; insertion the other way round.
        - In equal steps, up to rounding down to whole pixels; ``fractions`` are the true ones.
        - NaN (no score) in the whole row where a map is the same everywhere, zero or not, or holds a NaN: it puts
          the pixels into no order.

    Args:
        score: Called with some perturbed images and with which rows of ``images`` they are; gives the softmax
            probability of the class of each row, always of the same class for a row.
        images: In [0, 1].
        maps: In any size and scale, one an image.
        mode: ``deletion`` or ``insertion``.
        steps: How many, at least 1; ``score`` sees every image steps + 1 times.
        baseline: See :func:`distill.metrics.baseline_images`.
        images_at_a_time: Most images that ``score`` is called with; bounds the memory.

    Returns:
        Curves with steps + 1 points.

    Raises:
        ValueError: if there is not one map an image, a number is below 1, or ``mode`` or ``baseline`` is unknown.

    References:
        Petsiuk et al., "RISE", BMVC 2018, section 4.3.

    Example:
        >>> images, maps = torch.tensor([[[[0.2, 0.8]]]]), torch.tensor([[[1.0, 3.0]]])
        >>> perturbation_curves(lambda some, rows: some.sum((1, 2, 3)), images, maps, mode="deletion", steps=2)
        Curves(fractions=tensor([0.0000, 0.5000, 1.0000]), scores=tensor([[1.0000, 0.2000, 0.0000]]))
    """
    check_one_map_per_image(images, maps)
    if mode not in get_args(Mode):
        raise ValueError(f"`mode` must be one of {', '.join(get_args(Mode))}, got {mode!r}.")
    for name, got in (("steps", steps), ("images_at_a_time", images_at_a_time)):
        if got < 1:
            raise ValueError(f"`{name}` must be at least 1, got {got}.")
    size = images.shape[2:]
    place = _places(maps, size)
    changed = torch.arange(steps + 1, device=images.device) * size.numel() // steps
    rest = baseline_images(images, baseline)
    before, after = (images, rest) if mode == "deletion" else (rest, images)
    found = []
    for part in torch.arange(len(images) * (steps + 1), device=images.device).split(images_at_a_time):
        rows, step = part // (steps + 1), part % (steps + 1)
        reached = (place[rows] < changed[step][:, None]).view(-1, 1, *size)
        found.append(score(torch.where(reached, after[rows], before[rows]), rows))
    scores = wide(torch.cat(found)).view(len(images), steps + 1)
    heat = resize_and_normalize(maps, size, "min_max")
    unordered = is_empty(heat) | heat.isnan().flatten(1).any(1)
    return Curves((changed / size.numel()).to(scores.dtype), torch.where(unordered[:, None], torch.nan, scores))


def _places(maps: Tensor, size: torch.Size) -> Int[Tensor, "n p"]:
    """Find the place of every pixel in the descending order of its map."""
    order = resize_and_normalize(maps, size, "max").flatten(1).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=maps.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def area_under(curves: Curves) -> Float[Tensor, " n"]:
    """Area under every curve by trapezoids: the mean probability over the share of changed pixels.

    Example:
        >>> area_under(Curves(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([[1.0, 0.2, 0.0]])))
        tensor([0.3500])
    """
    return torch.trapezoid(wide(curves.scores), wide(curves.fractions), dim=1)


class InsertionAUC(MeanScore):
    """Mean area under insertion curves; images whose map has no order are excluded and counted."""

    def update(  # type: ignore[override]  # torchmetrics: every metric has arguments of its own
        self, scores: Float[Tensor, "n points"], fractions: Float[Tensor, " points"]
    ) -> None:
        """Add the curves of a batch; see :func:`perturbation_curves`."""
        self._add(area_under(Curves(fractions, scores)))


class DeletionAUC(InsertionAUC):
    """Mean area under deletion curves; images whose map has no order are excluded and counted."""

    higher_is_better = False
