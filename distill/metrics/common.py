"""Base class and shared functions of the metrics: input checks, resizing, Gaussian blur."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric

from distill.maps import Normalization, normalize_maps, resize_maps


class Measurement(NamedTuple):
    """A mean, the number of images in it, and the number of images excluded from it."""

    value: Float[Tensor, ""]
    n: Int[Tensor, ""]
    excluded: Int[Tensor, ""]


class MeanScore(Metric):
    """Mean of per-image scores over batches and processes; base class of the metrics.

    Convention:
        - NaN means that an image has no score: it is excluded from the mean and counted.
        - If no image has a score, the value is NaN.

    Example:
        >>> metric = MeanScore()
        >>> metric.update(torch.tensor([1.0, float("nan"), 0.5]))
        >>> metric.compute()
        Measurement(value=tensor(0.7500, dtype=torch.float64), n=tensor(2), excluded=tensor(1))
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    total: Tensor
    n: Tensor
    excluded: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("n", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("excluded", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: Float[Tensor, " n"]) -> None:
        """Add the scores of a batch."""
        self._add(scores)

    def compute(self) -> Measurement:
        """Return the mean over all batches and processes."""
        return Measurement(self.total / self.n, self.n, self.excluded)

    def _add(self, scores: Tensor) -> None:
        missing = scores.isnan()
        self.total += torch.where(missing, 0.0, scores).sum(dtype=torch.float64)
        self.n += (~missing).sum()
        self.excluded += missing.sum()


def check_same_size(maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *t"]) -> None:
    """Raise a ValueError if the maps have different sizes."""
    if maps.shape != reference_maps.shape:
        raise ValueError(
            f"maps must have the same size, got {tuple(maps.shape)} and {tuple(reference_maps.shape)}; "
            "resize both to the images' size first."
        )


def resize_and_normalize(
    maps: Float[Tensor, "n *s"], size: Sequence[int], normalize: Normalization
) -> Float[Tensor, "n *t"]:
    """Apply relu, resize to the images' size (linear, ``align_corners=False``), and normalise each map separately."""
    # Dividing by the maximum first avoids underflow when very small maps are multiplied by the interpolation weights.
    return normalize_maps(resize_maps(normalize_maps(maps.relu(), "max"), size), normalize)


def is_empty(maps: Float[Tensor, "n *s"]) -> Bool[Tensor, " n"]:
    """Return whether each map is zero everywhere."""
    return (maps == 0).flatten(1).all(1)


def sort_pixels(maps: Float[Tensor, "n p"]) -> tuple[Float[Tensor, "n p"], Int[Tensor, "n p"]]:
    """Sort each map in ascending order, NaN last; return the values and the position of each in its map.

    On the CPU, NumPy sorts: its vectorised sort takes a sixth of the time of :func:`torch.sort`. Equal pixels are in no
    particular order.

    Example:
        >>> sort_pixels(torch.tensor([[5.0, 1.0, 7.0]]))
        (tensor([[1., 5., 7.]]), tensor([[1, 0, 2]]))
    """
    if maps.requires_grad or not _is_sorted_by_numpy(maps):
        return maps.sort(1)
    pixels = torch.from_numpy(np.argsort(maps.numpy(), axis=1))
    return maps.gather(1, pixels), pixels


def sort_values(maps: Float[Tensor, "n p"]) -> Float[Tensor, "n p"]:
    """Sort each map in ascending order, NaN last; a thirtieth of the time of :func:`torch.sort` on the CPU.

    Example:
        >>> sort_values(torch.tensor([[5.0, 1.0, 7.0]]))
        tensor([[1., 5., 7.]])
    """
    if maps.requires_grad or not _is_sorted_by_numpy(maps):
        return maps.sort(1).values
    return torch.from_numpy(np.sort(maps.numpy(), axis=1))


def _is_sorted_by_numpy(maps: Tensor) -> bool:
    return maps.device.type == "cpu" and maps.dtype in (torch.float32, torch.float64)


def gaussian_blur(maps: Float[Tensor, "n *s"], *, sigma: float, radius: int) -> Float[Tensor, "n *s"]:
    """Apply a Gaussian blur along each spatial axis in turn.

    Convention:
        - The border is reflected without repeating the edge pixel, several times if an axis is shorter than the
          window, so maps of any size are accepted.
        - Computed in float64 as products with small matrices: variances are differences of nearly equal numbers, which
          must not be rounded by autocast or TensorFloat-32.

    Args:
        maps: Maps with one or more spatial axes.
        sigma: Standard deviation in pixels, above 0.
        radius: Half width of the window in pixels; the window has 2 radius + 1 pixels.

    Example:
        >>> gaussian_blur(torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]]), sigma=1.0, radius=1)
        tensor([[0.0000, 0.2741, 0.4519, 0.2741, 0.0000]], dtype=torch.float64)
    """
    maps = maps.double()
    for axis in range(1, maps.ndim):
        weights = _blur_matrix(maps.shape[axis], sigma, radius, maps.device)
        maps = (maps.movedim(axis, -1) @ weights).movedim(-1, axis)
    return maps


def _blur_matrix(size: int, sigma: float, radius: int, device: torch.device) -> Tensor:
    """Return the weight of each input pixel (row) in each output pixel (column)."""
    offsets = torch.arange(-radius, radius + 1, device=device)
    weights = (-(offsets.double() / sigma).square() / 2).exp()
    pixels = torch.arange(size, device=device)
    period = max(2 * (size - 1), 1)
    source = (pixels + offsets[:, None]).remainder(period)
    source = torch.minimum(source, period - source)
    is_source = source[:, None, :] == pixels[:, None]
    return torch.where(is_source, (weights / weights.sum())[:, None, None], 0.0).sum(0)
