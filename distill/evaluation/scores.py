"""Scores of every single image: what all means and all paired comparisons are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int8, Int64
from torch import Tensor

from distill.data.imageset import ImageSet
from distill.evaluation.drawing import blocks, partners
from distill.evaluation.figures import Figures, measure, measure_shown, show
from distill.evaluation.floor import cosine_floor
from distill.evaluation.side_by_side import Look, Looks, SideBySide
from distill.evaluation.subject import Piece, Subject
from distill.report.record import Stratum

#: Names of the strata by their code.
STRATA: tuple[Stratum, ...] = get_args(Stratum)


class Column(NamedTuple):
    """One figure: NaN where an image has no score; ``looked`` tells where it was looked for, None: everywhere."""

    values: Float32[np.ndarray, " n"]
    looked: Bool[np.ndarray, " n"] | None = None


@dataclass(frozen=True)
class ImageScores:
    """One network on one test set, an entry an image.

    Args:
        label: Class of the image.
        predicted: The class that the network chooses first.
        probability: Softmax probability of that class.
        stratum: Code of :data:`STRATA`; None without a reference and for the reference.
        columns: By names of :data:`distill.measures.MEASURES`, and ``EXPLAINER/figure`` for held-out explainers.
    """

    label: Int64[np.ndarray, " n"]
    predicted: Int64[np.ndarray, " n"]
    probability: Float32[np.ndarray, " n"]
    stratum: Int8[np.ndarray, " n"] | None
    columns: dict[str, Column]

    def with_some(self, figures: Figures, positions: Sequence[int]) -> ImageScores:
        """Add figures that only some images were looked at for."""
        looked = np.zeros(len(self.label), dtype=bool)
        looked[positions] = True
        more = {}
        for name, scores in figures.items():
            values = np.full(len(looked), np.nan, dtype=np.float32)
            values[positions] = scores.float().cpu().numpy()
            more[name] = Column(values, looked)
        return replace(self, columns={**self.columns, **more})


class SetScores(NamedTuple):
    """All networks on one test set; share of the image that the object covers where there is one, if that is known."""

    networks: dict[str, ImageScores]
    object_share: float | None


def score_images(subject: Subject, *, masked: bool, seed: int) -> SetScores:
    """Score every image of a test set under every network, in one pass, or two where images are masked.

    Convention:
        - Images are dealt into blocks of at most 1,024. Raw maps are held for one block, and the floor of the map
          cosine takes the other image out of it. No score depends on the batch size.

    Args:
        subject: Networks and test set.
        masked: Whether images are looked at again through the maps.
        seed: Of the other image in the floor.
    """
    side, total = subject.side, len(subject.data)
    dealt = blocks(total)
    subject.tell("", 0, total)
    found: dict[str, list[Figures]] = {network: [] for network in side.networks}
    areas: list[Tensor] = []
    done = 0
    for number, block in enumerate(dealt):
        raw: dict[str, list[Tensor]] = {network: [] for network in side.networks}
        batches: dict[str, list[Figures]] = {network: [] for network in side.networks}
        for piece in subject.pieces(block):
            looks = subject.look(piece)
            for network, figures in _score(side, looks, piece, masked=masked).items():
                batches[network].append(figures)
                raw[network].append(looks.networks[network].raw)
            if piece.objects is not None:
                areas.append(piece.objects.flatten(1).float().mean(1).cpu())
            done += len(piece.labels)
            subject.tell("", done, total)
        others = partners(len(block), seed=seed, stream=number)
        for network, parts in batches.items():
            figures = _join(parts)
            if network in side.others:
                pair = torch.cat(raw[network]), torch.cat(raw[str(side.reference)])
                floor = cosine_floor(*pair, others, size=subject.size, batch_size=subject.batch_size)
                figures["map_cosine_floor"] = floor.cpu()
            found[network].append(figures)
    order = np.concatenate(dealt)
    joined = {network: _in_order(_join(parts), order) for network, parts in found.items()}
    scores = {
        network: _scores(figures, subject.data, joined[str(side.reference)] if network in side.others else None)
        for network, figures in joined.items()
    }
    return SetScores(scores, _object_share(areas))


def _score(side: SideBySide, looks: Looks, piece: Piece, *, masked: bool) -> dict[str, Figures]:
    with torch.no_grad():
        shown = show(side, looks, piece) if masked else {}
        scored = {}
        for network, look in looks.networks.items():
            compared = network in side.others
            reference: Look | None = looks.networks[str(side.reference)] if compared else None
            figures = _answer(look) | measure(look, reference, piece)
            if masked:
                figures |= measure_shown(look, shown[network], shown[str(side.reference)] if compared else None)
            scored[network] = {name: scores.cpu() for name, scores in figures.items()}
    return scored


def _answer(look: Look) -> Figures:
    probability, predicted = look.logits.float().softmax(1).max(1)
    return {"predicted": predicted, "probability": probability}


def _join(parts: Sequence[Figures]) -> Figures:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _in_order(figures: Figures, order: Int64[np.ndarray, " n"]) -> dict[str, np.ndarray]:
    back = np.argsort(order)
    return {name: scores.numpy()[back] for name, scores in figures.items()}


def _scores(figures: dict[str, np.ndarray], data: ImageSet, reference: dict[str, np.ndarray] | None) -> ImageScores:
    answers = ("predicted", "probability")
    return ImageScores(
        label=data.labels.numpy().astype(np.int64),
        predicted=figures["predicted"].astype(np.int64),
        probability=figures["probability"].astype(np.float32),
        stratum=None if reference is None else _strata(figures, reference),
        columns={name: Column(values.astype(np.float32)) for name, values in figures.items() if name not in answers},
    )


def _strata(figures: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> Int8[np.ndarray, " n"]:
    right, reference_right = figures["accuracy"] == 1, reference["accuracy"] == 1
    same = figures["predicted"] == reference["predicted"]
    conditions = (right & reference_right, ~right & reference_right, right & ~reference_right, same)
    return np.select(conditions, range(4), 4).astype(np.int8)


def _object_share(areas: Sequence[Float[Tensor, " n"]]) -> float | None:
    shares = torch.cat(list(areas)).double() if areas else torch.zeros(0)
    return float(shares[shares > 0].mean()) if (shares > 0).any() else None
