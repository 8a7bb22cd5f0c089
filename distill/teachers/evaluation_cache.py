"""What a network that no longer changes said of a test set, kept, so that it need not be asked again."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.teachers.store import ViewStore


class CachedOutput(NamedTuple):
    """What a network said of a batch: its logits, and raw maps in the size of the layer."""

    logits: Float[Tensor, "n classes"]
    raw: Float[Tensor, "n i j"]


class EvaluationCache:
    """Logits and raw maps of the images of one test set, one row of numbers each.

    Convention:
        - Whoever gives the store answers for it that network, images, labels and settings are those of its rows.

    Args:
        store: Of the images, one view each; as wide as logits and map together.
        shape: Height and width of a raw map.

    Example:
        >>> known = EvaluationCache(ViewStore(images=5, views=1, width=3 + 4), shape=(2, 2))
        >>> known.find(torch.tensor([4])) is None
        True
        >>> known.add(torch.tensor([4]), CachedOutput(torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(1, 2, 2)))
        >>> known.find(torch.tensor([4]))
        CachedOutput(logits=tensor([[1., 2., 3.]]), raw=tensor([[[1., 1.],
                 [1., 1.]]]))
    """

    def __init__(self, store: ViewStore, shape: tuple[int, int]) -> None:
        self._store, self._shape = store, shape

    def find(self, index: Int[Tensor, " n"]) -> CachedOutput | None:
        """Give what was said of these images, on the CPU; None unless all of it is known."""
        rows, known = self._store.find(index, torch.zeros_like(index))
        if not known.all():
            return None
        maps = self._shape[0] * self._shape[1]
        return CachedOutput(rows[:, :-maps], rows[:, -maps:].unflatten(1, self._shape))

    def add(self, index: Int[Tensor, " n"], said: CachedOutput) -> None:
        """Keep what was said of these images."""
        row = torch.cat([said.logits.flatten(1), said.raw.flatten(1)], 1)
        self._store.add(index, torch.zeros_like(index), row)
