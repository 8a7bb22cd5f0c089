"""How many maps are no maps. What the other metrics leave out is counted here."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from distill.metrics.inputs import is_empty
from distill.metrics.mean_score import MeanScore


def zero_map(maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    """Tell for every map whether it is zero everywhere: 1 or 0.

    Example:
        >>> import torch
        >>> zero_map(torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, torch.nan]]))
        tensor([1., 0., 0., 0.])
    """
    return is_empty(maps).float()


def nan_map(maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    """Tell for every map whether it holds a value that is no number, NaN or infinite: 1 or 0.

    Example:
        >>> import torch
        >>> nan_map(torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, torch.nan]]))
        tensor([0., 0., 0., 1.])
    """
    return (~maps.isfinite()).flatten(1).any(1).float()


def constant_map(maps: Float[Tensor, "n *s"]) -> Float[Tensor, " n"]:
    """Tell for every map whether it is the same number everywhere, though not zero: 1 or 0.

    Example:
        >>> import torch
        >>> constant_map(torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, torch.nan]]))
        tensor([0., 0., 1., 0.])
    """
    low, high = maps.flatten(1).aminmax(dim=1)
    return ((low == high) & (low != 0) & low.isfinite()).float()


class ZeroMaps(MeanScore):
    """Share of maps that are zero everywhere."""

    higher_is_better = False

    def update(self, maps: Float[Tensor, "n *s"]) -> None:
        """Add a batch; see :func:`zero_map`."""
        self._add(zero_map(maps))


class NaNMaps(MeanScore):
    """Share of maps that hold a value that is no number."""

    higher_is_better = False

    def update(self, maps: Float[Tensor, "n *s"]) -> None:
        """Add a batch; see :func:`nan_map`."""
        self._add(nan_map(maps))


class ConstantMaps(MeanScore):
    """Share of maps that are the same everywhere, though not zero."""

    higher_is_better = False

    def update(self, maps: Float[Tensor, "n *s"]) -> None:
        """Add a batch; see :func:`constant_map`."""
        self._add(constant_map(maps))
