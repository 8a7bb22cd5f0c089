"""Base class of the map metrics, and what they share: input checks, resizing, Gaussian blur."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric

from distill.maps import Normalization, normalize_maps, resize_maps


class Measurement(NamedTuple):
    """A mean, the number of images behind it, and the number of those that it leaves out."""

    value: Float[Tensor, ""]
    n: Int[Tensor, ""]
    excluded: Int[Tensor, ""]


class MeanScore(Metric):
    """Mean of scores over batches and processes; the base of the metrics of this room.

    Convention:
        - A score that is NaN says that the image has none: it is left out and counted.
        - Without any score the value is NaN, never 0.

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
        """Give the mean over all batches and processes."""
        return Measurement(self.total / self.n, self.n, self.excluded)

    def _add(self, scores: Tensor) -> None:
        missing = scores.isnan()
        self.total += torch.where(missing, 0.0, scores).sum(dtype=torch.float64)
        self.n += (~missing).sum()
        self.excluded += missing.sum()


def wide(tensor: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Give float32 or wider, whatever the precision of the pass was."""
    return tensor if tensor.dtype.itemsize == 8 else tensor.float()


def check_same_size(maps: Float[Tensor, "n *s"], reference_maps: Float[Tensor, "n *t"]) -> None:
    """Refuse maps that cannot be compared pixel by pixel."""
    if maps.shape != reference_maps.shape:
        raise ValueError(
            f"maps must have the same size, got {tuple(maps.shape)} and {tuple(reference_maps.shape)}; "
            "resize both to the images' size first."
        )


def resize_and_normalize(
    maps: Float[Tensor, "n *s"], size: Sequence[int], normalize: Normalization
) -> Float[Tensor, "n *t"]:
    """Bring raw maps to the images' size: relu, linear (``align_corners=False``), then normalised, each by itself."""
    # Divided by the maximum first: weights of the interpolation times a very small map would underflow.
    return normalize_maps(resize_maps(normalize_maps(maps.relu(), "max"), size), normalize)


def is_empty(maps: Float[Tensor, "n *s"]) -> Bool[Tensor, " n"]:
    """Tell for every map whether it is zero everywhere."""
    return (maps == 0).flatten(1).all(1)


def gaussian_blur(maps: Float[Tensor, "n *s"], *, sigma: float, radius: int) -> Float[Tensor, "n *s"]:
    """Weigh the neighbours of every pixel by a Gaussian, along one spatial axis after the other.

    Convention:
        - The border is reflected without the edge pixel itself, and again and again where an axis is shorter than
          the window: any size will do.
        - In float64 and as products with small matrices: variances are differences of nearly equal numbers, which
          neither autocast nor TensorFloat-32 may round.

    Args:
        maps: With one spatial axis or more.
        sigma: Width in pixels, above 0.
        radius: Pixels on either side that count; the window has 2 radius + 1.

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
    """How much (column) a smoothed pixel takes of every pixel (row)."""
    offsets = torch.arange(-radius, radius + 1, device=device)
    weights = (-(offsets.double() / sigma).square() / 2).exp()
    pixels = torch.arange(size, device=device)
    period = max(2 * (size - 1), 1)
    source = (pixels + offsets[:, None]).remainder(period)
    source = torch.minimum(source, period - source)
    taken = source[:, None, :] == pixels[:, None]
    return torch.where(taken, (weights / weights.sum())[:, None, None], 0.0).sum(0)
