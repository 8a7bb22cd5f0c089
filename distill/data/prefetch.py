"""Batches decoded ahead, by processes that live as long as the loader."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from distill.data.imageset import ImageSet
from distill.errors import InputError
from distill.types import Batch

Place = tuple[Tensor, Tensor]


class _Plan(Sampler[Place]):
    """The batches of an epoch, as positions and views; another one for each epoch."""

    def __init__(self) -> None:
        self.places: list[Place] = []

    def __iter__(self) -> Iterator[Place]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


class _Batches(Dataset[Batch]):
    def __init__(self, data: ImageSet) -> None:
        self.data = data

    def __getitem__(self, place: Place) -> Batch | InputError:  # type: ignore[override]
        torch.set_num_threads(1)
        try:
            return self.data.take(*place)
        except InputError as error:  # as a value: raised here, it would come with the worker's traceback
            return error


class Prefetcher:
    """Fetch batches in the order that is asked for, by worker processes that are started once.

    Args:
        data: Is copied into each worker.
        workers: How many, at least 1.
        pin_memory: See :class:`distill.data.BatchLoader`.
    """

    def __init__(self, data: ImageSet, *, workers: int, pin_memory: bool) -> None:
        self._plan = _Plan()
        self._loader = DataLoader(
            _Batches(data),
            batch_size=None,
            sampler=self._plan,
            num_workers=workers,
            persistent_workers=True,
            pin_memory=pin_memory,
        )

    def __call__(self, places: list[Place]) -> Iterator[Batch]:
        """Give a batch for every pair of positions and views."""
        self._plan.places = places
        for batch in self._loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch
