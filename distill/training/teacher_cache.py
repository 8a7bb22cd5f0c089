"""The teacher's answers by (image, view): looked up where they are known, computed once where they are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from distill.cache import ViewStore
from distill.explain import METHODS, PairExplainer
from distill.training.teacher import FrozenTeacher
from distill.types import StagedOutput, Stored

#: Policy of maps that are the same for every class.
NO_CLASS = "none"


class MapKind(NamedTuple):
    """What a stored map is: how the teacher was explained, at which layer, and whose class it was, if of any."""

    method: str
    layer: str
    policy: str

    @classmethod
    def of(cls, pair: PairExplainer) -> MapKind:
        """Tell what kind of map a pair asks of the teacher."""
        specific = METHODS[pair.teacher.method].class_specific
        return cls(pair.teacher.method, pair.teacher.layer, pair.policy if specific else NO_CLASS)


class Answers(NamedTuple):
    """What the teacher says of a batch: its pass or only the logits of it, and raw maps of each kind that is kept."""

    output: StagedOutput | None
    maps: Mapping[MapKind, Tensor]


Shapes: TypeAlias = Mapping[MapKind, tuple[int, ...]]
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
        maps: Mapping[MapKind, ViewStore],
        pairs: Mapping[MapKind, PairExplainer],
        shapes: Shapes,
    ) -> None:
        self.stores: dict[MapKind | None, ViewStore] = {LOGITS: logits}
        for kind, store in maps.items():
            self.stores[kind] = store
        self.pairs, self.shapes = dict(pairs), dict(shapes)
        self.looked_up = self.hits = 0
        self._asked: tuple[Tensor, Tensor] | None = None
        self._fresh: list[tuple[Tensor, Tensor, dict[MapKind | None, Tensor]]] = []

    def look_up(self, index: Int[Tensor, " n"], view: Int[Tensor, " n"]) -> Stored:
        """Find what is known of a batch that is still on the CPU."""
        self.flush()
        found = [store.find(index, view) for store in self.stores.values()]
        known = torch.stack([one.known for one in found]).all(0)
        missing = torch.nonzero(~known)[:, 0]
        self._asked = (index[missing], view[missing])
        self.looked_up, self.hits = self.looked_up + len(index), self.hits + int(known.sum())
        return Stored(tuple(one.rows for one in found), missing)

    def answer(self, teacher: FrozenTeacher, stored: Stored, images: Tensor, labels: Tensor) -> Answers:
        """Put together what was found and what the teacher says of the rest."""
        rows = dict(zip(self.stores, stored.rows, strict=True))
        if stored.missing.shape[0] > 0:
            asked, self._asked = self._asked, None
            fresh = self._compute(teacher, images[stored.missing], labels[stored.missing])
            rows = {kind: row.index_copy(0, stored.missing, fresh[kind]) for kind, row in rows.items()}
            if asked is not None:
                self._fresh.append((*asked, fresh))
        maps = {kind: rows[kind].view(-1, *shape) for kind, shape in self.shapes.items()}
        return Answers(StagedOutput(rows[LOGITS]), maps)

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

    def _compute(self, teacher: FrozenTeacher, images: Tensor, labels: Tensor) -> dict[MapKind | None, Tensor]:
        output = teacher(images.contiguous(memory_format=torch.channels_last), sorted({k.layer for k in self.pairs}))
        fresh: dict[MapKind | None, Tensor] = {LOGITS: output.logits.float()}
        for kind, pair in self.pairs.items():
            target = labels if pair.policy == "label" else output.logits.argmax(1)
            fresh[kind] = pair.teacher.from_output(output, target).flatten(1).float()
        return fresh


def fill(
    cache: TeacherCache,
    teacher: FrozenTeacher,
    views: Iterator[tuple[Tensor, Tensor, Tensor, Tensor]],
) -> Iterator[int]:
    """Compute what is missing of views (images in [0, 1], labels, index, view), and give how many each batch had."""
    for images, labels, index, view in views:
        stored = cache.look_up(index, view)
        stored = Stored(tuple(row.to(images.device) for row in stored.rows), stored.missing.to(images.device))
        cache.answer(teacher, stored, images, labels)
        yield len(index)
    cache.flush()
