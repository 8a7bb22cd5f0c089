"""Rows of numbers by image and view."""

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
    """Rows, and which of them are known; the others are zero."""

    rows: Float[Tensor, "n width"]
    known: Bool[Tensor, " n"]


class ViewStore:
    """What is known of the views of a set of images, one row of float32 each.

    Convention:
        - The row of a view is written once and never changes; a second one for it is left out.
        - With a journal, rows lie in its file, mapped into memory, and what other processes add is found as well.
          Without, they lie in memory.

    Args:
        images: How many there are.
        views: How many each has.
        width: Floats a row.
        journal: The file.

    Example:
        >>> store = ViewStore(images=3, views=2, width=2)
        >>> store.add(torch.tensor([2]), torch.tensor([1]), torch.tensor([[5.0, 6.0]]))
        >>> store.find(torch.tensor([0, 2]), torch.tensor([1, 1]))
        StoredRows(rows=tensor([[0., 0.],
                [5., 6.]]), known=tensor([False,  True]))
    """

    def __init__(self, *, images: int, views: int, width: int, journal: Journal | None = None) -> None:
        self.images, self.views, self.width, self.journal = images, views, width, journal
        self._starts: NDArray[np.int64] = np.full(images * views, _MISSING, np.int64)
        self._values: NDArray[np.float32] = np.zeros(0, np.float32)
        self._used = 0
        self._read()

    def __len__(self) -> int:
        return int((self._starts != _MISSING).sum())

    def find(self, index: Int64[Tensor, " n"], view: Int64[Tensor, " n"]) -> StoredRows:
        """Look views up, on the CPU."""
        keys = self._keys(index, view)
        starts = self._starts[keys]
        if self.journal is not None and (starts == _MISSING).any() and self.journal.changed():
            self._read()
            starts = self._starts[keys]
        known = starts != _MISSING
        rows = np.zeros((len(keys), self.width), np.float32)
        if known.any():
            rows[known] = self._values[starts[known][:, None] + np.arange(self.width)]
        return StoredRows(torch.from_numpy(rows), torch.from_numpy(known))

    def add(self, index: Int64[Tensor, " n"], view: Int64[Tensor, " n"], rows: Float[Tensor, "n width"]) -> None:
        """Add the rows of views that are not known yet."""
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
        if self.journal.replaced():
            self._starts.fill(_MISSING)
        read = False
        for keys, starts in self.journal.unread():
            inside = (keys >= 0) & (keys < len(self._starts))
            self._starts[keys[inside]] = starts[inside]
            read = True
        if read:
            self._values = self.journal.values()

    def _keys(self, index: Tensor, view: Tensor) -> NDArray[np.int64]:
        keys: NDArray[np.int64] = (index * self.views + view).numpy()
        return keys
