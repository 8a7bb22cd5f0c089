"""Masked images, and deletion and insertion curves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.maps import at_least_float32
from distill.metrics.common import MeanScore, gaussian_blur, is_empty, resize_and_normalize

Baseline = Literal["zero", "blur"]

_BLUR_SIGMA, _BLUR_RADIUS = 5.0, 5


def baseline_images(images: Float[Tensor, "n c *s"], baseline: Baseline) -> Float[Tensor, "n c *s"]:
    """Return the images that replace removed pixels.

    Convention:
        - ``zero``: black, before the network normalises its input.
        - ``blur``: the image blurred with a Gaussian of sigma 5 and 11 pixels per axis; the border is reflected.

    Args:
        images: Images in [0, 1].
        baseline: ``zero`` or ``blur``.

    Raises:
        ValueError: if ``baseline`` is unknown.

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
    """Keep the part of each image shown by its map: map x image + (1 - map) x baseline.

    Convention:
        - The raw map goes through relu, is resized to the images (linear, ``align_corners=False``) and divided by its
          maximum.
        - If a map is zero everywhere, the result is the baseline; if it contains NaN, the result is NaN.

    Args:
        images: Images in [0, 1].
        maps: One map per image, in any size and scale.
        baseline: See :func:`baseline_images`; the paper uses ``zero``.

    Returns:
        Masked images with the shape and dtype of ``images``.

    Raises:
        ValueError: if the numbers of maps and images differ, or ``baseline`` is unknown.

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
    """Raise a ValueError unless there is one map per image."""
    if len(images) != len(maps):
        raise ValueError(f"expected one map per image, got {len(maps)} maps for {len(images)} images.")


Mode = Literal["deletion", "insertion"]


class Curves(NamedTuple):
    """Probability of each image after each step (``scores``), and share of the pixels changed (``fractions``)."""

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
    """Compute the probability of one class while pixels are removed (deletion) or inserted (insertion).

    Convention:
        - The raw map goes through relu and is resized to the images (linear, ``align_corners=False``). Pixels are
          changed in descending order of the map; equal pixels in row-major order; all channels of a pixel together.
        - Deletion starts with the image and ends with the baseline; insertion starts with the baseline.
        - The steps are equal up to rounding down to whole pixels; ``fractions`` are the exact shares.
        - All scores of an image are NaN (no score) if its map is constant or contains NaN, since the order of the
          pixels is then undefined.

    Args:
        score: Function of perturbed images and their rows in ``images``. Returns the softmax probability of one class
            per image; the class must depend on the row only.
        images: Images in [0, 1].
        maps: One map per image, in any size and scale.
        mode: ``deletion`` or ``insertion``.
        steps: Number of steps, at least 1; ``score`` is evaluated steps + 1 times per image.
        baseline: See :func:`distill.metrics.baseline_images`.
        images_at_a_time: Largest batch passed to ``score``; limits the memory.

    Returns:
        Curves with steps + 1 points.

    Raises:
        ValueError: if the numbers of maps and images differ, ``steps`` or ``images_at_a_time`` is below 1, or ``mode``
            or ``baseline`` is unknown.

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
    for name, value in (("steps", steps), ("images_at_a_time", images_at_a_time)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    size = images.shape[2:]
    rank = _descending_ranks(maps, size)
    changed = torch.arange(steps + 1, device=images.device) * size.numel() // steps
    background = baseline_images(images, baseline)
    before, after = (images, background) if mode == "deletion" else (background, images)
    batches = []
    for batch in torch.arange(len(images) * (steps + 1), device=images.device).split(images_at_a_time):
        rows, step = batch // (steps + 1), batch % (steps + 1)
        is_changed = (rank[rows] < changed[step][:, None]).view(-1, 1, *size)
        batches.append(score(torch.where(is_changed, after[rows], before[rows]), rows))
    scores = at_least_float32(torch.cat(batches)).view(len(images), steps + 1)
    heat = resize_and_normalize(maps, size, "min_max")
    unordered = is_empty(heat) | heat.isnan().flatten(1).any(1)
    return Curves((changed / size.numel()).to(scores.dtype), torch.where(unordered[:, None], torch.nan, scores))


def _descending_ranks(maps: Tensor, size: torch.Size) -> Int[Tensor, "n p"]:
    """Return the rank of each pixel in the descending order of its map, from 0."""
    order = resize_and_normalize(maps, size, "max").flatten(1).argsort(dim=1, descending=True, stable=True)
    ranks = torch.arange(order.shape[1], device=maps.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, ranks)


def area_under(curves: Curves) -> Float[Tensor, " n"]:
    """Area under each curve by the trapezoidal rule: the mean probability over the share of changed pixels.

    Example:
        >>> area_under(Curves(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([[1.0, 0.2, 0.0]])))
        tensor([0.3500])
    """
    return torch.trapezoid(at_least_float32(curves.scores), at_least_float32(curves.fractions), dim=1)


class InsertionAUC(MeanScore):
    """Mean area under insertion curves; images whose map is constant or contains NaN are excluded and counted."""

    def update(  # type: ignore[override]  # in torchmetrics each metric has its own arguments
        self, scores: Float[Tensor, "n points"], fractions: Float[Tensor, " points"]
    ) -> None:
        """Add the curves of a batch; see :func:`perturbation_curves`."""
        self._add(area_under(Curves(fractions, scores)))


class DeletionAUC(InsertionAUC):
    """Mean area under deletion curves; images whose map is constant or contains NaN are excluded and counted."""

    higher_is_better = False
