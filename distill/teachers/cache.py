"""`TeacherCache`: a cache of the teacher's logits and maps by image and view; and the estimate of its size."""

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

#: Largest share of the free disk space or memory that a cache may use.
MAX_SHARE_OF_FREE = 0.9


class CacheSize(NamedTuple):
    """Rows (views) that a run needs, their size in bytes, the rows already cached, and the folder; None for memory."""

    rows: int
    bytes: int
    cached: int = 0
    folder: Path | None = None

    def __str__(self) -> str:
        where = f"in {self.folder}" if self.folder else "in memory"
        return f"{self.rows:,} views, {format_bytes(self.bytes)} {where}; {self.cached:,} views already cached"


def format_bytes(size: float) -> str:
    """Format a number of bytes with a unit.

    Example:
        >>> format_bytes(3_500_000)
        '3.5 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def estimate_size(rows: int, *, images: int, width: int, cached: int, folder: Path | None) -> CacheSize:
    """Return the size of a cache, after a check that it fits.

    Args:
        rows: Number of views that the run needs.
        images: Size of the set.
        width: Floats per row.
        cached: Rows that are already in the cache.
        folder: Folder of the cache; None for a cache in memory.

    Raises:
        InputError: if there is not enough free disk space or memory.
    """
    bytes_per_row = 4 * width + 8
    size = CacheSize(rows, rows * bytes_per_row, cached, folder)
    free = _free(folder)
    needed = max(rows - cached, 0) * bytes_per_row
    if needed > MAX_SHARE_OF_FREE * free:
        where = f"on the disk of {folder}" if folder else "in memory"
        views = int(MAX_SHARE_OF_FREE * free) // (images * bytes_per_row)
        too_many = "" if views else "Not even one view per image fits. "
        fewer = f"data.augment.views={views} (the most that fits), " if views else ""
        raise InputError(
            f"teacher.cache: {rows:,} views need {format_bytes(size.bytes)} {where}, but only {format_bytes(free)} are "
            f"free. {too_many}Set {fewer}another teacher.cache_dir, or teacher.cache=off."
        )
    return size


def _free(folder: Path | None) -> int:
    if folder is None:
        return int(psutil.virtual_memory().available)
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


#: Class policy of maps that are the same for every class.
NO_CLASS = "none"


class MapKey(NamedTuple):
    """Kind of a cached map: the method, the teacher's layer, the class policy, or ``NO_CLASS``, and the layout."""

    method: str
    layer: str
    policy: str
    layout: str = "auto"

    @classmethod
    def of(cls, pair: PairExplainer) -> MapKey:
        """Return the kind of the teacher's map in a pair."""
        specific = METHODS[pair.teacher.method].class_specific
        teacher = pair.teacher
        return cls(teacher.method, teacher.layer, pair.teacher_policy if specific else NO_CLASS, teacher.layout)

    def fields(self) -> dict[str, str]:
        """Return what identifies the maps on disk; the layout only if it was given."""
        return {key: value for key, value in self._asdict().items() if key != "layout" or value != "auto"}


class TeacherOutputs(NamedTuple):
    """The teacher's output for a batch (without activations if cached, None if not needed), and its cached raw maps."""

    output: StagedOutput | None
    maps: Mapping[MapKey, Tensor]


Shapes: TypeAlias = Mapping[MapKey, tuple[int, ...]]
LOGITS = None


class TeacherCache:
    """Cache of a frozen teacher's logits and raw maps for the views of one image set.

    Convention:
        - Logits and each kind of map are stored in float32 in separate stores, so runs with different maps share the
          logits and the maps they have in common. Activations are not cached.
        - :meth:`lookup` runs on the CPU before a batch is sent to the device. The number of misses is known there, so
          the host does not wait for the device. New rows are copied from the device at the next lookup.

    Args:
        logits: Store of the logits.
        maps: Store of each kind of map.
        pairs: Explainers that compute each kind of map.
        shapes: Shape of one map of each kind.

    Attributes:
        lookups: Views looked up since the last call of :meth:`hit_rate`.
        hits: Views of these that were cached.
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
        self.lookups = self.hits = 0
        self._misses: tuple[Tensor, Tensor] | None = None
        self._unsaved: list[tuple[Tensor, Tensor, dict[MapKey | None, Tensor]]] = []

    def lookup(self, index: Int[Tensor, " n"], view: Int[Tensor, " n"]) -> CacheLookup:
        """Return the cached rows of a batch that is still on the CPU; a view is a hit if all stores have its row."""
        self.flush()
        stored = [store.lookup(index, view) for store in self.stores.values()]
        hits = torch.stack([one.hits for one in stored]).all(0)
        missing = torch.nonzero(~hits)[:, 0]
        self._misses = (index[missing], view[missing])
        self.lookups, self.hits = self.lookups + len(index), self.hits + int(hits.sum())
        return CacheLookup(tuple(one.rows for one in stored), missing)

    def complete(self, teacher: FrozenTeacher, stored: CacheLookup, images: Tensor, labels: Tensor) -> TeacherOutputs:
        """Run the teacher on the misses of the last lookup, and return the outputs for the whole batch."""
        rows = dict(zip(self.stores, stored.rows, strict=True))
        if stored.missing.shape[0] > 0:
            misses, self._misses = self._misses, None
            computed = self._compute(teacher, images[stored.missing], labels[stored.missing])
            rows = {kind: row.index_copy(0, stored.missing, computed[kind]) for kind, row in rows.items()}
            if misses is not None:
                self._unsaved.append((*misses, computed))
        maps = {kind: rows[kind].view(-1, *shape) for kind, shape in self.shapes.items()}
        return TeacherOutputs(StagedOutput(rows[LOGITS]), maps)

    def flush(self) -> None:
        """Add the rows computed since the last flush to the stores."""
        unsaved, self._unsaved = self._unsaved, []
        for index, view, rows in unsaved:
            for kind, values in rows.items():
                self.stores[kind].add(index, view, values)

    def hit_rate(self) -> float | None:
        """Return hits / lookups since the last call and reset both; None if there were no lookups."""
        rate = self.hits / self.lookups if self.lookups else None
        self.lookups = self.hits = 0
        return rate

    def _compute(self, teacher: FrozenTeacher, images: Tensor, labels: Tensor) -> dict[MapKey | None, Tensor]:
        output = teacher(images.contiguous(memory_format=torch.channels_last), sorted({k.layer for k in self.pairs}))
        rows: dict[MapKey | None, Tensor] = {LOGITS: output.logits.float()}
        for kind, pair in self.pairs.items():
            target = pair.choose_for_teacher(output, labels)
            rows[kind] = pair.teacher.from_output(output, target).flatten(1).float()
        return rows


def fill_missing(
    cache: TeacherCache,
    teacher: FrozenTeacher,
    views: Iterator[tuple[Tensor, Tensor, Tensor, Tensor]],
) -> Iterator[int]:
    """Fill the cache with the missing rows of some views; yield the number of views of each batch.

    Args:
        cache: The cache.
        teacher: Computes the missing rows.
        views: Batches of images in [0, 1], labels, index and view.
    """
    for images, labels, index, view in views:
        stored = cache.lookup(index, view)
        stored = CacheLookup(tuple(row.to(images.device) for row in stored.rows), stored.missing.to(images.device))
        cache.complete(teacher, stored, images, labels)
        yield len(index)
    cache.flush()
