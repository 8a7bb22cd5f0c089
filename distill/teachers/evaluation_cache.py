"""`EvaluationCache`: a cache of a fixed network's logits and raw maps on a test set."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.teachers.store import ViewStore


class CachedOutput(NamedTuple):
    """Cached output of a network for a batch: logits, and raw maps in the size of the layer."""

    logits: Float[Tensor, "n classes"]
    raw: Float[Tensor, "n i j"]


class EvaluationCache:
    """Cache of the logits and raw maps of one test set, one row per image.

    Convention:
        - The caller must ensure that network, images, labels and settings are those of the rows in the store.

    Args:
        store: Store of the images, with one view each; its width is that of logits and map together.
        shape: Height and width of a raw map.

    Example:
        >>> cache = EvaluationCache(ViewStore(images=5, views=1, width=3 + 4), shape=(2, 2))
        >>> cache.lookup(torch.tensor([4])) is None
        True
        >>> cache.add(torch.tensor([4]), CachedOutput(torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(1, 2, 2)))
        >>> cache.lookup(torch.tensor([4]))
        CachedOutput(logits=tensor([[1., 2., 3.]]), raw=tensor([[[1., 1.],
                 [1., 1.]]]))
    """

    def __init__(self, store: ViewStore, shape: tuple[int, int]) -> None:
        self._store, self._shape = store, shape

    def lookup(self, index: Int[Tensor, " n"]) -> CachedOutput | None:
        """Return the cached output for some images, on the CPU; None if any of them is a miss."""
        rows, hits = self._store.lookup(index, torch.zeros_like(index))
        if not hits.all():
            return None
        pixels = self._shape[0] * self._shape[1]
        return CachedOutput(rows[:, :-pixels], rows[:, -pixels:].unflatten(1, self._shape))

    def add(self, index: Int[Tensor, " n"], output: CachedOutput) -> None:
        """Add the output for some images."""
        rows = torch.cat([output.logits.flatten(1), output.raw.flatten(1)], 1)
        self._store.add(index, torch.zeros_like(index), rows)
