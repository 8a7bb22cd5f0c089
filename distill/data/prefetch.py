"""Batches decoded ahead, by processes that live as long as the loader."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from distill.data.imageset import ImageSet
from distill.errors import InputError, RunError
from distill.types import Batch

Place = tuple[NDArray[np.int64], NDArray[np.int64]]  # a tensor would cross in shared memory, with an open file each


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
        try:
            index, view = map(torch.from_numpy, place)
            return self.data.take(index, view)
        except InputError as error:  # as a value: raised here, it would come with the worker's traceback
            return error


class Prefetcher:
    """Fetch batches in the order that is asked for, by worker processes that are started once.

    Convention:
        - No random number is taken from torch's generator, so training with workers is training without.
        - The processes serve one pass at a time: the next one may begin before the last has ended, which ends it.
        - They live until :meth:`close` or an error. Left to the garbage collector, each may be waited for 5 seconds, as
          the queue that is to end it can be collected before it.

    Args:
        data: Is copied into each worker.
        workers: How many, at least 1.
        pin_memory: See :class:`distill.data.BatchLoader`.
    """

    def __init__(self, data: ImageSet, *, workers: int, pin_memory: bool) -> None:
        self._plan = _Plan()
        self._passes = 0
        self._loader = DataLoader(
            _Batches(data),
            batch_size=None,
            sampler=self._plan,
            num_workers=workers,
            persistent_workers=True,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # else every start of the workers takes a number from the global one
        )

    def __call__(self, places: list[tuple[Tensor, Tensor]]) -> Iterator[Batch]:
        """Give a batch for every pair of positions and views.

        Raises:
            InputError: if an image cannot be decoded.
            RunError: if a worker was killed.
            RuntimeError: if another pass has begun.
        """
        self._passes += 1
        number = self._passes
        self._plan.places = [(index.numpy(), view.numpy()) for index, view in places]
        fetched = iter(self._loader)
        for _ in places:
            if number != self._passes:
                raise RuntimeError("another pass over this loader has begun; give each its own loader.")
            try:
                batch = _next(fetched)
                if isinstance(batch, InputError):
                    raise batch
            except Exception:
                self.close()
                raise
            yield batch

    def close(self) -> None:
        """End the processes; another pass starts new ones."""
        processes, self._loader._iterator = self._loader._iterator, None
        if isinstance(processes, _MultiProcessingDataLoaderIter):
            processes._shutdown_workers()


def _next(fetched: Iterator[Batch | InputError]) -> Batch | InputError:
    try:
        return next(fetched)
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise RunError(
            f"a process that decodes images was killed ({str(error).splitlines()[0]}). Often memory ran out, or shared "
            "memory, of which containers have little (`df -h /dev/shm`, `docker run --shm-size=8g`): give more, or set "
            "`data.workers` to less, 0 for none."
        ) from error
