"""Batch loader of an image set: shuffled, sharded over processes, prefetched by workers, resumable within an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from distill.data.balanced import Order, balanced_order, draw_views
from distill.data.counted import Purpose, permutation
from distill.data.imageset import ImageSet
from distill.data.mixing import Mixing
from distill.data.transformed_views import AnyViews, TransformedViews
from distill.errors import InputError, RunError
from distill.types import Batch

#: Positions and views of a batch; numpy arrays, as each tensor sent to a worker would hold a shared-memory file open.
BatchKey = tuple[NDArray[np.int64], NDArray[np.int64]]


class _KeySampler(Sampler[BatchKey]):
    """Yields the keys of the batches of the current epoch; ``keys`` is replaced for each epoch."""

    def __init__(self) -> None:
        self.keys: list[BatchKey] = []

    def __iter__(self) -> Iterator[BatchKey]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


class _Batches(Dataset[Batch]):
    def __init__(self, data: ImageSet, transform: Callable[[Batch], Batch] | None) -> None:
        self.data, self.transform = data, transform

    def take(self, index: Int64[Tensor, " b"], view: Int64[Tensor, " b"]) -> Batch:
        batch = self.data.take(index, view)
        return batch if self.transform is None else self.transform(batch)

    def __getitem__(self, key: BatchKey) -> Batch | InputError:  # type: ignore[override]
        try:
            index, view = map(torch.from_numpy, key)
            return self.take(index, view)
        except InputError as error:  # returned, not raised: a raised error would carry the worker's traceback
            return error


class Prefetcher:
    """Fetch batches in a given order in worker processes, which are started once.

    Convention:
        - Nothing is drawn from torch's global generator, so the number of workers does not change the training result.
        - The workers serve one pass at a time: starting a new pass ends the previous one.
        - The workers run until :meth:`close` or an error. If they are left to the garbage collector instead, each may
          delay it by 5 seconds, since the queue that stops a worker can be collected before the worker.

    Args:
        batches: The images, with their transforms; copied to each worker.
        workers: Number of worker processes, at least 1.
        pin_memory: See :class:`distill.data.BatchLoader`.
    """

    def __init__(self, batches: _Batches, *, workers: int, pin_memory: bool) -> None:
        self._sampler = _KeySampler()
        self._passes = 0
        self._loader = DataLoader(
            batches,
            batch_size=None,
            sampler=self._sampler,
            num_workers=workers,
            persistent_workers=True,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # otherwise starting the workers draws from the global generator
        )

    def __call__(self, keys: list[tuple[Tensor, Tensor]]) -> Iterator[Batch]:
        """Yield one batch per pair of positions and views.

        Raises:
            InputError: if an image cannot be decoded.
            RunError: if a worker was killed.
            RuntimeError: if a new pass was started before this one ended.
        """
        self._passes += 1
        number = self._passes
        self._sampler.keys = [(index.numpy(), view.numpy()) for index, view in keys]
        batches = iter(self._loader)
        for _ in keys:
            if number != self._passes:
                raise RuntimeError("a new pass over this loader was started; use one loader per pass.")
            try:
                batch = _next(batches)
                if isinstance(batch, InputError):
                    raise batch
            except Exception:
                self.close()
                raise
            yield batch

    def close(self) -> None:
        """Stop the worker processes; the next pass starts new ones."""
        iterator, self._loader._iterator = self._loader._iterator, None
        if isinstance(iterator, _MultiProcessingDataLoaderIter):
            iterator._shutdown_workers()


def _next(batches: Iterator[Batch | InputError]) -> Batch | InputError:
    """Return the next batch; turn the error about a killed worker into a RunError."""
    try:
        return next(batches)
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise RunError(
            f"a worker process that decodes images was killed ({str(error).splitlines()[0]}). The usual cause is too "
            "little memory, or too little shared memory in a container (check `df -h /dev/shm`; increase it with "
            "`docker run --shm-size=8g`). Provide more memory, or reduce `data.workers` (0 uses no worker processes)."
        ) from error


class EpochSampler:
    """The order of the images in an epoch, and the part of it that one process visits.

    Convention:
        - The order is a function of ``seed`` and the epoch; without ``shuffle`` it is the order of the set.
        - Rank ``r`` of ``w`` visits the elements ``r, r + w, r + 2 w, ...`` of the order, so the batches of all ranks
          together equal those of one process with ``w`` times the batch size.
        - With ``even``, all ranks visit the same number of images; if ``w`` does not divide ``n``, the first images of
          the order are repeated.

    Args:
        n: Size of the set.
        shuffle: Whether to draw a new order for each epoch.
        even: Whether all ranks must visit the same number of images, as distributed training requires; otherwise no
            image is visited twice.
        seed: Determines the orders.
        rank: Number of this process, from 0.
        world_size: Number of processes.
        labels: Class of each image, to shuffle so that all classes occur equally often, see
            :func:`distill.data.balanced.balanced_order`; None to visit every image once.

    Example:
        >>> [list(EpochSampler(5, shuffle=False, even=False, seed=0, rank=r, world_size=2)) for r in (0, 1)]
        [[0, 2, 4], [1, 3]]
    """

    def __init__(
        self,
        n: int,
        *,
        shuffle: bool,
        even: bool,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        labels: Int64[Tensor, " n"] | None = None,
    ) -> None:
        self.n, self.shuffle, self.even, self.seed = n, shuffle, even, seed
        self.rank, self.world_size = rank, world_size
        self.labels = labels.numpy() if shuffle and labels is not None else None
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the current epoch; Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        total = self.n + (-self.n % self.world_size if self.even else 0)
        return len(range(self.rank, total, self.world_size))

    def order(self) -> Int64[Tensor, " m"]:
        """Return the positions in the set that this process visits in the current epoch, in order."""
        return self.order_with_repeats().positions

    def order_with_repeats(self) -> Order:
        """Return the same positions, and how often each image occurred before in the epoch."""
        if self.labels is not None:
            index, repeat = balanced_order(self.labels, seed=self.seed, epoch=self.epoch)
        elif self.shuffle:
            index = torch.from_numpy(permutation(self.n, Purpose.ORDER, seed=self.seed, part=self.epoch))
            repeat = torch.zeros_like(index)
        else:
            index, repeat = torch.arange(self.n), torch.zeros(self.n, dtype=torch.int64)
        if self.even:
            index, repeat = (torch.cat([part, part[: -self.n % self.world_size]]) for part in (index, repeat))
        return Order(index[self.rank :: self.world_size], repeat[self.rank :: self.world_size])

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())


class BatchLoader:
    """Iterates over an :class:`ImageSet` in batches of uint8 images with the number of the view to apply to each.

    Convention:
        - The view of image ``i`` is a function of ``data_seed``, the epoch and ``i``; it does not depend on the order.
        - By default every image occurs once, in the order of the set, as in evaluation.
        - An epoch starts at its first batch. After ``load_state_dict``, the next epoch continues after the last batch
          that was returned, if it is the same epoch.
        - ``len`` is the number of batches of a complete epoch, also after resuming.

    Args:
        data: The images.
        batch_size: Images per batch and process.
        views: The views to draw from, or the number of one view for all images. Views that are made by transforms are
            applied here, all others by the caller.
        mixing: How the images of a batch are mixed in pairs; the caller mixes them, after the views.
        shuffle: Whether to draw a new order for each epoch.
        balanced: Whether the order has all classes equally often; only with ``shuffle``.
        drop_last: Whether to drop a last, smaller batch.
        seed: Determines the order of each epoch.
        data_seed: Determines the views of each epoch, and how its batches are mixed.
        rank: Number of this process, from 0.
        world_size: Number of processes that share the set. In training (``shuffle`` or ``drop_last``) all processes get
            the same number of batches; in evaluation no image is used twice.
        workers: Number of worker processes that prefetch batches, for images that are decoded or transformed on access.
        pin_memory: Whether to return pinned tensors, which are copied to a CUDA device asynchronously.

    Attributes:
        sampler: The order of the images; ``sampler.set_epoch`` sets the epoch.
        waited: Seconds in which the training waited for batches of this loader.

    Raises:
        InputError: if the batch size is not positive, or larger than the number of training images per process.

    Example:
        >>> data = ImageSet(torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.zeros(5).long(), ("only",))
        >>> [batch.index.tolist() for batch in BatchLoader(data, batch_size=2)]
        [[0, 1], [2, 3], [4]]
    """

    batch_sampler = None  # Lightning reads it from every loader with a `sampler`

    def __init__(
        self,
        data: ImageSet,
        *,
        batch_size: int,
        views: AnyViews | int = 0,
        mixing: Mixing | None = None,
        shuffle: bool = False,
        balanced: bool = False,
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
        self.data_seed, self.pin_memory, self.mixing = data_seed, pin_memory, mixing
        self.sampler = EpochSampler(
            len(data),
            shuffle=shuffle,
            even=training,
            seed=seed,
            rank=rank,
            world_size=world_size,
            labels=data.labels if balanced else None,
        )
        transform = partial(views.transform, seed=data_seed) if isinstance(views, TransformedViews) else None
        self._batches = _Batches(data, transform)
        self._prefetcher = Prefetcher(self._batches, workers=workers, pin_memory=pin_memory) if workers else None
        self.waited = 0.0
        self._position = 0
        self._position_epoch = 0
        self._resumed = False

    def __len__(self) -> int:
        round_up = 0 if self.drop_last else self.batch_size - 1
        return (len(self.sampler) + round_up) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the sampler's epoch at the time of the first batch."""
        epoch = self.sampler.epoch
        start = self._position if self._resumed and self._position_epoch == epoch else 0
        self._resumed, self._position_epoch = False, epoch
        order = self.sampler.order_with_repeats()
        if isinstance(self.views, int):
            view = torch.full_like(order.positions, self.views)
        else:
            view = draw_views(self.views, order, len(self.data), seed=self.data_seed, epoch=epoch)
        batches_of_keys = zip(order.positions.split(self.batch_size), view.split(self.batch_size), strict=True)
        keys = list(batches_of_keys)[start : len(self)]
        batches = self._prefetcher(keys) if self._prefetcher else (self._fetch(*key) for key in keys)
        for position in range(start, start + len(keys)):
            asked = time.perf_counter()
            batch = next(batches)
            self.waited += time.perf_counter() - asked
            self._position = position + 1
            if self.mixing is not None:
                batch = self.mixing.draw(batch, seed=self.data_seed, epoch=epoch, number=position)
            yield batch

    def close(self) -> None:
        """Stop the worker processes, if any; the next epoch starts new ones."""
        if self._prefetcher:
            self._prefetcher.close()

    def _fetch(self, index: Int64[Tensor, " b"], view: Int64[Tensor, " b"]) -> Batch:
        batch = self._batches.take(index, view)
        if not self.pin_memory:
            return batch
        return batch._replace(**{k: part.pin_memory() for k, part in batch._asdict().items() if part is not None})

    def state_dict(self) -> dict[str, int]:
        """Return the current epoch and the number of its batches that were returned."""
        return {"epoch": self._position_epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore the state; the next pass over that epoch continues after the batches that were returned."""
        self.sampler.set_epoch(state["epoch"])
        self._position_epoch, self._position = state["epoch"], state["position"]
        self._resumed = True
