"""What is being measured: networks side by side on one test set, in batches on one device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from distill.data.augment import to_unit
from distill.data.imageset import ImageSet
from distill.evaluation.known import KnownLooks, Said
from distill.evaluation.side_by_side import Looks, SideBySide
from distill.metrics import boxes_to_instances

#: Called after every batch with what is being done, how much of it is done, and how much there is.
Progress: TypeAlias = Callable[[str, int, int], None]


class Piece(NamedTuple):
    """Some images in [0, 1], by position, and their objects, if known: i where the i-th instance is, 0 elsewhere."""

    positions: Int[Tensor, " n"]
    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    instances: Num[Tensor, "n h w"] | None

    @property
    def objects(self) -> Bool[Tensor, "n h w"] | None:
        """Where any object is."""
        return None if self.instances is None else self.instances != 0


class Subject(NamedTuple):
    """Networks on one test set.

    Args:
        side: The networks, in evaluation mode and on the device.
        name: Of the set.
        data: Its images.
        batch_size: Images at a time, perturbed ones counted; bounds the memory.
        device: Where the networks are.
        progress: See :data:`Progress`.
        known: What some networks said of these images before; what is missing there is added.
    """

    side: SideBySide
    name: str
    data: ImageSet
    batch_size: int
    device: torch.device | str = "cpu"
    progress: Progress | None = None
    known: Mapping[str, KnownLooks] = MappingProxyType({})

    def pieces(self, positions: Sequence[int] | np.ndarray) -> Iterator[Piece]:
        """Cut some images into batches, in the order given."""
        for index in torch.as_tensor(positions, dtype=torch.int64).split(self.batch_size):
            part = self.data.subset(index)
            images, labels = to_unit(part.images.to(self.device)), part.labels.to(self.device)
            yield Piece(index, images, labels, self._instances(part))

    def look(self, piece: Piece) -> Looks:
        """Run every network once and explain it, but for what is known of it."""
        found = {network: known.find(piece.positions) for network, known in self.known.items()}
        said = {network: one for network, one in found.items() if one is not None}
        looks = self.side.look(piece.images, piece.labels, said)
        for network in self.known.keys() - said.keys():
            look = looks.networks[network]
            self.known[network].add(piece.positions, Said(look.logits, look.raw))
        return looks

    def tell(self, what: str, done: int, total: int) -> None:
        """Report progress; ``what`` is added to the name of the set."""
        if self.progress is not None:
            self.progress(f"{self.name}: {what}" if what else self.name, done, total)

    @property
    def size(self) -> torch.Size:
        """Height and width of the images."""
        return self.data.images.shape[2:]

    def _instances(self, part: ImageSet) -> Tensor | None:
        if part.masks is not None:
            return part.masks.to(self.device)
        if part.boxes is not None:
            return boxes_to_instances(part.boxes.to(self.device), self.size)
        return None
