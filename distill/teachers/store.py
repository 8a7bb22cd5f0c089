"""`ViewStore`: rows of floats by image and view, in memory or in a journal file."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from distill.teachers.journal import Journal

_MISSING = -1


class StoredRows(NamedTuple):
    """Result of a lookup: the rows, and whether each is a hit; the row of a miss is zero."""

    rows: Float[Tensor, "n width"]
    hits: Bool[Tensor, " n"]


class ViewStore:
    """Stores one row of float32 per view of a set of images.

    Convention:
        - The row of a view is written once and never changes; further rows for it are ignored.
        - With a journal, the rows are in its file, which is mapped into memory; rows added by other processes are found
          as well. Without a journal, the rows are in memory.

    Args:
        images: Number of images.
        views: Number of views per image.
        width: Floats per row.
        journal: The file; None for a store in memory.
        by_view: Whether the rows are numbered view by view instead of image by image. The number of views can then
            differ between the stores of one file.

    Example:
        >>> store = ViewStore(images=3, views=2, width=2)
        >>> store.add(torch.tensor([2]), torch.tensor([1]), torch.tensor([[5.0, 6.0]]))
        >>> store.lookup(torch.tensor([0, 2]), torch.tensor([1, 1]))
        StoredRows(rows=tensor([[0., 0.],
                [5., 6.]]), hits=tensor([False,  True]))
    """

    def __init__(
        self, *, images: int, views: int, width: int, journal: Journal | None = None, by_view: bool = False
    ) -> None:
        self.images, self.views, self.width, self.journal, self.by_view = images, views, width, journal, by_view
        self._starts: NDArray[np.int64] = np.full(images * views, _MISSING, np.int64)
        self._values: NDArray[np.float32] = np.zeros(0, np.float32)
        self._used = 0
        self._read()

    def __len__(self) -> int:
        return int((self._starts != _MISSING).sum())

    def lookup(self, index: Int64[Tensor, " n"], view: Int64[Tensor, " n"]) -> StoredRows:
        """Return the rows of some views, on the CPU."""
        keys = self._keys(index, view)
        starts = self._starts[keys]
        if self.journal is not None and (starts == _MISSING).any() and self.journal.has_new():
            self._read()
            starts = self._starts[keys]
        hits = starts != _MISSING
        rows = np.zeros((len(keys), self.width), np.float32)
        if hits.any():
            rows[hits] = self._values[starts[hits][:, None] + np.arange(self.width)]
        return StoredRows(torch.from_numpy(rows), torch.from_numpy(hits))

    def add(self, index: Int64[Tensor, " n"], view: Int64[Tensor, " n"], rows: Float[Tensor, "n width"]) -> None:
        """Add the rows of views that are not stored yet."""
        keys, first = np.unique(self._keys(index, view), return_index=True)
        new = self._starts[keys] == _MISSING
        keys, values = keys[new], rows.detach().cpu().float().numpy()[first[new]]
        if not len(keys):
            return
        if self.journal is not None:
            self.journal.append(keys, values)
            self._read()
            return
        needed = self._used + values.size
        if needed > len(self._values):
            grown = np.zeros(max(needed, 2 * len(self._values)), np.float32)
            grown[: self._used] = self._values[: self._used]
            self._values = grown
        self._values[self._used : needed] = values.ravel()
        self._starts[keys] = self._used + self.width * np.arange(len(keys))
        self._used = needed

    def _read(self) -> None:
        if self.journal is None:
            return
        if self.journal.reset_if_replaced():
            self._starts.fill(_MISSING)
        has_read = False
        for keys, starts in self.journal.read_new():
            valid = (keys >= 0) & (keys < len(self._starts))
            keys, starts = keys[valid], starts[valid]
            new = self._starts[keys] == _MISSING  # several processes can write the same row
            self._starts[keys[new]] = starts[new]
            has_read = True
        if has_read:
            self._values = self.journal.values()

    def _keys(self, index: Tensor, view: Tensor) -> NDArray[np.int64]:
        keys: NDArray[np.int64] = (view * self.images + index if self.by_view else index * self.views + view).numpy()
        return keys
