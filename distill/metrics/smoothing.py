"""Gaussian smoothing of maps and images of any size."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def smooth(maps: Float[Tensor, "n *s"], *, sigma: float, radius: int) -> Float[Tensor, "n *s"]:
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
        >>> smooth(torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]]), sigma=1.0, radius=1)
        tensor([[0.0000, 0.2741, 0.4519, 0.2741, 0.0000]], dtype=torch.float64)
    """
    maps = maps.double()
    for axis in range(1, maps.ndim):
        weights = _matrix(maps.shape[axis], sigma, radius, maps.device)
        maps = (maps.movedim(axis, -1) @ weights).movedim(-1, axis)
    return maps


def _matrix(size: int, sigma: float, radius: int, device: torch.device) -> Tensor:
    """How much (column) a smoothed pixel takes of every pixel (row)."""
    offsets = torch.arange(-radius, radius + 1, device=device)
    weights = (-(offsets.double() / sigma).square() / 2).exp()
    pixels = torch.arange(size, device=device)
    period = max(2 * (size - 1), 1)
    source = (pixels + offsets[:, None]).remainder(period)
    source = torch.minimum(source, period - source)
    taken = source[:, None, :] == pixels[:, None]
    return torch.where(taken, (weights / weights.sum())[:, None, None], 0.0).sum(0)
