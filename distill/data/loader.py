"""Batches of an image set: shuffled, sharded over processes, prefetched by workers, and resumable mid-epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from distill.data.augment import Views
from distill.data.counted import Purpose, permutation
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


class EpochSampler:
    """The order of an epoch, and the share that one process has in it.

    Convention:
        - The order is a function of ``seed`` and the epoch; without ``shuffle`` it is that of the set.
        - Rank ``r`` of ``w`` takes the places ``r, r + w, r + 2 w, ...``, so the batches of all ranks, side by side,
          are those of one process with ``w`` times the batch size.
        - ``even``: all ranks get the same number, the first places being taken again where it does not divide.

    Args:
        n: Size of the set.
        shuffle: Whether each epoch has an order of its own.
        even: Whether the ranks must get equally many, as training in step does; else none is taken twice.
        seed: Fixes the orders.
        rank: Which process this is, from 0.
        world_size: How many processes there are.

    Example:
        >>> [list(EpochSampler(5, shuffle=False, even=False, seed=0, rank=r, world_size=2)) for r in (0, 1)]
        [[0, 2, 4], [1, 3]]
    """

    def __init__(self, n: int, *, shuffle: bool, even: bool, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.n, self.shuffle, self.even, self.seed = n, shuffle, even, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch; Lightning calls this before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        places = self.n + (-self.n % self.world_size if self.even else 0)
        return len(range(self.rank, places, self.world_size))

    def order(self) -> Int64[Tensor, " m"]:
        """Positions in the set that this process visits in the current epoch, in turn."""
        if self.shuffle:
            places = torch.from_numpy(permutation(self.n, Purpose.ORDER, seed=self.seed, part=self.epoch))
        else:
            places = torch.arange(self.n)
        if self.even:
            places = torch.cat([places, places[: -self.n % self.world_size]])
        return places[self.rank :: self.world_size]

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())


class BatchLoader:
    """Iterates over an :class:`ImageSet` in batches of uint8 images that say which view is to be taken.

    Convention:
        - The view of image ``i`` is a function of ``data_seed``, the epoch and ``i``; the order plays no part in it.
        - By default every image comes once, in the set's own order, as evaluation wants it.
        - An epoch starts at its first batch, except the first one after ``load_state_dict``: that goes on with the
          batch after the last one that had been handed out, if it is the same epoch.
        - ``len`` is the number of batches of a whole epoch, also after resuming.

    Args:
        data: What to iterate over.
        batch_size: Images a batch and process.
        views: The views to draw from, or the number of the one view that all images get.
        shuffle: Whether each epoch has an order of its own.
        drop_last: Whether a last, smaller batch is left out.
        seed: Fixes the order of each epoch.
        data_seed: Fixes the views of each epoch.
        rank: Which process this is, from 0.
        world_size: Over how many processes the set is shared out. Those that train (``shuffle`` or ``drop_last``) get
            equally many batches; in evaluation no image is counted twice.
        workers: Processes that fetch batches ahead; for images that are decoded when they are asked for.
        pin_memory: Whether to hand out pinned tensors, which reach a CUDA device without a wait.

    Attributes:
        sampler: The order; its ``set_epoch`` goes to another epoch.

    Raises:
        InputError: if the batch size is not positive, or the share of a training process does not fill one batch.

    Example:
        >>> data = ImageSet(torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.zeros(5).long(), ("only",))
        >>> [batch.index.tolist() for batch in BatchLoader(data, batch_size=2)]
        [[0, 1], [2, 3], [4]]
    """

    batch_sampler = None  # Lightning asks every loader that has a `sampler` for it

    def __init__(
        self,
        data: ImageSet,
        *,
        batch_size: int,
        views: Views | int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        data_seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        training = shuffle or drop_last
        if batch_size < 1:
            raise InputError(f"`batch_size` must be 1 or more, got {batch_size}.")
        if training and batch_size * world_size > len(data):
            processes = f" on each of {world_size} processes" if world_size > 1 else ""
            raise InputError(
                f"`batch_size` is {batch_size}{processes}, but there are only {len(data)} training images: "
                "take a smaller batch or more images."
            )
        self.data, self.batch_size, self.views, self.drop_last = data, batch_size, views, drop_last
        self.data_seed, self.pin_memory = data_seed, pin_memory
        self.sampler = EpochSampler(
            len(data), shuffle=shuffle, even=training, seed=seed, rank=rank, world_size=world_size
        )
        self._prefetcher = Prefetcher(data, workers=workers, pin_memory=pin_memory) if workers else None
        self._position = 0
        self._position_epoch = 0
        self._resumed = False

    def __len__(self) -> int:
        spare = 0 if self.drop_last else self.batch_size - 1
        return (len(self.sampler) + spare) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        """Start the epoch that the sampler names when the first batch is asked for."""
        epoch = self.sampler.epoch
        start = self._position if self._resumed and self._position_epoch == epoch else 0
        self._resumed, self._position_epoch = False, epoch
        order, view = self.sampler.order(), self._views_of(epoch)
        batches = order.split(self.batch_size)[start : len(self)]
        places = [(index, view[index]) for index in batches]
        fetched = self._prefetcher(places) if self._prefetcher else (self._fetch(*place) for place in places)
        for position, batch in enumerate(fetched, start):
            self._position = position + 1
            yield batch

    def close(self) -> None:
        """End the workers, if there are any; another epoch starts new ones."""
        if self._prefetcher:
            self._prefetcher.close()

    def _views_of(self, epoch: int) -> Int64[Tensor, " n"]:
        if isinstance(self.views, int):
            return torch.full((len(self.data),), self.views)
        return self.views.draw(len(self.data), seed=self.data_seed, epoch=epoch)

    def _fetch(self, index: Int64[Tensor, " b"], view: Int64[Tensor, " b"]) -> Batch:
        batch = self.data.take(index, view)
        if not self.pin_memory:
            return batch
        return batch._replace(**{k: part.pin_memory() for k, part in batch._asdict().items() if part is not None})

    def state_dict(self) -> dict[str, int]:
        """Say which epoch this is and how many of its batches were handed out."""
        return {"epoch": self._position_epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next epoch, if it is the one named, go on after the batches that were handed out."""
        self.sampler.set_epoch(state["epoch"])
        self._position_epoch, self._position = state["epoch"], state["position"]
        self._resumed = True
