"""`TeacherCache`: the teacher's logits and maps by (image, view), and the size of such a cache."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import psutil
import torch
from jaxtyping import Int
from torch import Tensor

from distill.errors import InputError
from distill.explain import METHODS, PairExplainer
from distill.teachers.frozen import FrozenTeacher
from distill.teachers.store import ViewStore
from distill.types import CacheLookup, StagedOutput

#: Of what is free, the share that a cache may take.
MAX_SHARE_OF_FREE = 0.9


class CacheSize(NamedTuple):
    """Rows that a run will meet, their bytes, how many are known already, and where they lie."""

    rows: int
    bytes: int
    known: int = 0
    folder: Path | None = None

    def __str__(self) -> str:
        where = f"in {self.folder}" if self.folder else "in memory"
        return f"{self.rows:,} views, {format_bytes(self.bytes)} {where}; {self.known:,} views known already"


def format_bytes(size: float) -> str:
    """Write bytes for people.

    Example:
        >>> format_bytes(3_500_000)
        '3.5 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def estimate_size(rows: int, *, images: int, width: int, there: int, folder: Path | None) -> CacheSize:
    """Say how much a cache needs, if there is room for it.

    Args:
        rows: Views that will be met.
        images: Size of the set.
        width: Floats a row.
        there: Rows that are known already.
        folder: Where the file lies; None for memory.

    Raises:
        InputError: if there is not enough disk or memory.
    """
    each = 4 * width + 8
    total = CacheSize(rows, rows * each, there, folder)
    free = _free(folder)
    missing = max(rows - there, 0) * each
    if missing > MAX_SHARE_OF_FREE * free:
        where = f"on the disk of {folder}" if folder else "in memory"
        fit = int(MAX_SHARE_OF_FREE * free) // (images * each)
        advice = f"data.augment.views={fit} would fit" if fit else "not even one view of each image would fit"
        raise InputError(
            f"teacher.cache: {rows:,} views, {format_bytes(total.bytes)}, are needed {where}, and "
            f"{format_bytes(free)} are free; {advice}. Choose that, another teacher.cache_dir, or teacher.cache=off."
        )
    return total


def _free(folder: Path | None) -> int:
    if folder is None:
        return int(psutil.virtual_memory().available)
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


#: Policy of maps that are the same for every class.
NO_CLASS = "none"


class MapKey(NamedTuple):
    """What a stored map is: how the teacher was explained, at which layer, and whose class it was, if of any."""

    method: str
    layer: str
    policy: str

    @classmethod
    def of(cls, pair: PairExplainer) -> MapKey:
        """Tell what kind of map a pair asks of the teacher."""
        specific = METHODS[pair.teacher.method].class_specific
        return cls(pair.teacher.method, pair.teacher.layer, pair.policy if specific else NO_CLASS)


class TeacherOutputs(NamedTuple):
    """What the teacher says of a batch: its pass or only the logits of it, and raw maps of each kind that is kept."""

    output: StagedOutput | None
    maps: Mapping[MapKey, Tensor]


Shapes: TypeAlias = Mapping[MapKey, tuple[int, ...]]
LOGITS = None


class TeacherCache:
    """Answers of a frozen teacher to the views of one set of images.

    Convention:
        - Logits and raw maps are kept in float32, each in a store of its own: runs that ask for other maps share the
          rest. Activations are never kept.
        - Looking up is done on the CPU, before a batch travels; how many views are missing is known there, so nothing
          waits for the device. What the device computes is read back when the next batch is looked up.

    Args:
        logits: Store of the logits.
        maps: Store of each kind of maps.
        pairs: How each kind is made.
        shapes: Size of a map of each kind.
    """

    def __init__(
        self,
        logits: ViewStore,
        maps: Mapping[MapKey, ViewStore],
        pairs: Mapping[MapKey, PairExplainer],
        shapes: Shapes,
    ) -> None:
        self.stores: dict[MapKey | None, ViewStore] = {LOGITS: logits}
        for kind, store in maps.items():
            self.stores[kind] = store
        self.pairs, self.shapes = dict(pairs), dict(shapes)
        self.looked_up = self.hits = 0
        self._asked: tuple[Tensor, Tensor] | None = None
        self._fresh: list[tuple[Tensor, Tensor, dict[MapKey | None, Tensor]]] = []

    def look_up(self, index: Int[Tensor, " n"], view: Int[Tensor, " n"]) -> CacheLookup:
        """Find what is known of a batch that is still on the CPU."""
        self.flush()
        found = [store.find(index, view) for store in self.stores.values()]
        known = torch.stack([one.known for one in found]).all(0)
        missing = torch.nonzero(~known)[:, 0]
        self._asked = (index[missing], view[missing])
        self.looked_up, self.hits = self.looked_up + len(index), self.hits + int(known.sum())
        return CacheLookup(tuple(one.rows for one in found), missing)

    def answer(self, teacher: FrozenTeacher, stored: CacheLookup, images: Tensor, labels: Tensor) -> TeacherOutputs:
        """Put together what was found and what the teacher says of the rest."""
        rows = dict(zip(self.stores, stored.rows, strict=True))
        if stored.missing.shape[0] > 0:
            asked, self._asked = self._asked, None
            fresh = self._compute(teacher, images[stored.missing], labels[stored.missing])
            rows = {kind: row.index_copy(0, stored.missing, fresh[kind]) for kind, row in rows.items()}
            if asked is not None:
                self._fresh.append((*asked, fresh))
        maps = {kind: rows[kind].view(-1, *shape) for kind, shape in self.shapes.items()}
        return TeacherOutputs(StagedOutput(rows[LOGITS]), maps)

    def flush(self) -> None:
        """Keep what was computed since the last time."""
        fresh, self._fresh = self._fresh, []
        for index, view, rows in fresh:
            for kind, values in rows.items():
                self.stores[kind].add(index, view, values)

    def hit_rate(self) -> float | None:
        """Give the share of views that were known since the last time it was asked for."""
        rate = self.hits / self.looked_up if self.looked_up else None
        self.looked_up = self.hits = 0
        return rate

    def _compute(self, teacher: FrozenTeacher, images: Tensor, labels: Tensor) -> dict[MapKey | None, Tensor]:
        output = teacher(images.contiguous(memory_format=torch.channels_last), sorted({k.layer for k in self.pairs}))
        fresh: dict[MapKey | None, Tensor] = {LOGITS: output.logits.float()}
        for kind, pair in self.pairs.items():
            target = labels if pair.policy == "label" else output.logits.argmax(1)
            fresh[kind] = pair.teacher.from_output(output, target).flatten(1).float()
        return fresh


def fill_missing(
    cache: TeacherCache,
    teacher: FrozenTeacher,
    views: Iterator[tuple[Tensor, Tensor, Tensor, Tensor]],
) -> Iterator[int]:
    """Compute what is missing of views (images in [0, 1], labels, index, view), and give how many each batch had."""
    for images, labels, index, view in views:
        stored = cache.look_up(index, view)
        stored = CacheLookup(tuple(row.to(images.device) for row in stored.rows), stored.missing.to(images.device))
        cache.answer(teacher, stored, images, labels)
        yield len(index)
    cache.flush()
