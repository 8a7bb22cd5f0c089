"""Scores of every single image: what all means, and later all paired comparisons, are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from distill.data.augment import to_unit
from distill.data.imageset import ImageSet
from distill.evaluation.side_by_side import Look, Looks, SideBySide
from distill.metrics import boxes_to_masks, energy_in_mask, map_cosine, top_one_agreement

#: Called after every batch with the name of the test set, the images done and the images in all.
Progress: TypeAlias = Callable[[str, int, int], None]


class ImageScores(NamedTuple):
    """Columns of one network on one test set, an entry an image; NaN: left out there; None: not measured at all."""

    predicted: Int[Tensor, " n"]
    correct: Float[Tensor, " n"]
    agreement: Float[Tensor, " n"] | None
    map_cosine: Float[Tensor, " n"] | None
    energy_in_object: Float[Tensor, " n"] | None
    zero_map: Float[Tensor, " n"]


class Piece(NamedTuple):
    """A part of a test set, on the device."""

    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    masks: Bool[Tensor, "n h w"] | None


def pieces(data: ImageSet, *, batch_size: int, device: torch.device | str) -> Iterator[Piece]:
    """Cut a set into batches, in its order; images become float in [0, 1]."""
    for index in torch.arange(len(data)).split(batch_size):
        part = data.subset(index)
        yield Piece(to_unit(part.images.to(device)), part.labels.to(device), _objects(part, device))


def score_images(
    side: SideBySide,
    name: str,
    data: ImageSet,
    *,
    batch_size: int,
    device: torch.device | str,
    progress: Progress | None = None,
) -> dict[str, ImageScores]:
    """Score every image of a test set under every network.

    Args:
        side: The networks, in evaluation mode and on the device.
        name: Name of the set, for the progress.
        data: Its images.
        batch_size: Images at a time; bounds the memory.
        device: Where the networks are.
        progress: See :data:`Progress`.

    Returns:
        Columns by name of the network, on the CPU.
    """
    parts: dict[str, list[ImageScores]] = {network: [] for network in side.networks}
    done = 0
    for piece in pieces(data, batch_size=batch_size, device=device):
        looks = side.look(piece.images, piece.labels)
        for network, look in looks.networks.items():
            parts[network].append(_score(look, _reference(side, network, looks), piece))
        done += len(piece.labels)
        if progress is not None:
            progress(name, done, len(data))
    return {network: ImageScores(*map(_join, zip(*columns, strict=True))) for network, columns in parts.items()}  # type: ignore[arg-type]


def object_share(data: ImageSet, *, batch_size: int) -> float | None:
    """Share of the image that the object covers, on average over the images that show one."""
    covers = [_objects(data.subset(index), "cpu") for index in torch.arange(len(data)).split(batch_size)]
    known = [cover.flatten(1).float().mean(1) for cover in covers if cover is not None]
    shares = torch.cat(known) if known else torch.zeros(0)
    return float(shares[shares > 0].mean()) if (shares > 0).any() else None


def _objects(data: ImageSet, device: torch.device | str) -> Tensor | None:
    if data.masks is not None:
        return (data.masks != 0).to(device)
    if data.boxes is not None:
        return boxes_to_masks(data.boxes.to(device), data.images.shape[2:])
    return None


def _reference(side: SideBySide, network: str, looks: Looks) -> Look | None:
    return None if side.reference is None or side.reference == network else looks.networks[side.reference]


def _score(look: Look, reference: Look | None, piece: Piece) -> ImageScores:
    predicted = look.logits.argmax(1)
    broken = look.logits.isnan().any(1)  # NaN counts as the largest: it would win, and could be right
    return ImageScores(
        predicted=predicted,
        correct=((predicted == piece.labels) & ~broken).float(),
        agreement=None if reference is None else top_one_agreement(look.logits, reference.logits),
        map_cosine=None if reference is None else map_cosine(look.maps, reference.maps),
        energy_in_object=None if piece.masks is None else energy_in_mask(look.maps, piece.masks),
        zero_map=(look.maps == 0).flatten(1).all(1).float(),
    )


def _join(column: tuple[Tensor | None, ...]) -> Tensor | None:
    known = [part.cpu() for part in column if part is not None]
    return torch.cat(known) if known else None
