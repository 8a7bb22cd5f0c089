"""Scores of every single image: the values behind all means and paired comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int8, Int64
from numpy import ndarray
from torch import Tensor

from distill.data.imageset import ImageSet
from distill.evaluation.networks import BatchOutputs, ComparedNetworks, EvaluationBatch, EvaluationJob, NetworkOutput
from distill.evaluation.sampling import blocks, other_images
from distill.maps import resize_maps
from distill.metrics import (
    average_drop,
    box_localization,
    coherency,
    complexity,
    constant_map,
    energy_in_mask,
    entropy,
    gini,
    increase_in_confidence,
    instances_hit,
    map_cosine,
    map_jensen_shannon,
    map_pearson,
    map_spearman,
    map_ssim,
    map_top_iou,
    mask_images,
    nan_map,
    output_kl,
    pointing_game,
    top_one_agreement,
    win,
    zero_map,
)
from distill.report.evaluation.record import Stratum

#: A score an image by the name of the figure; NaN: the image has none.
Figures: TypeAlias = dict[str, Float[Tensor, " n"]]


class MaskedOutput(NamedTuple):
    """What a network says when only what its map shows is left of every image."""

    probability: Float[Tensor, " n"]
    masked_probability: Float[Tensor, " n"]
    maps: Float[Tensor, "n h w"]


def mask_and_rerun(side: ComparedNetworks, looks: BatchOutputs, piece: EvaluationBatch) -> dict[str, MaskedOutput]:
    """Run every network once more, on the images through its own maps."""
    shown = {}
    for network, look in looks.networks.items():
        again = side.look_again(network, mask_images(piece.images, look.raw), looks.target)
        shown[network] = MaskedOutput(look.probability(looks.target), again.probability(looks.target), again.maps)
    return shown


def score_batch(look: NetworkOutput, reference: NetworkOutput | None, piece: EvaluationBatch) -> Figures:
    """Measure all that one forward pass tells of a network, and of the reference beside it."""
    figures = {"accuracy": _right(look.logits, piece.labels), **_shape(look), **_rates(look)}
    if reference is not None:
        figures |= _agreement(look, reference)
    if piece.instances is not None:
        figures |= _localisation(look, piece.instances)
    return figures


def score_masked(look: NetworkOutput, shown: MaskedOutput, reference: MaskedOutput | None) -> Figures:
    """Measure whether what a map shows decides the answer."""
    before, after = shown.probability, shown.masked_probability
    figures = {
        "average_drop": average_drop(before, after),
        "increase_in_confidence": increase_in_confidence(before, after),
        "coherency": coherency(look.maps, shown.maps),
    }
    if reference is not None:
        figures["win_rate"] = win(before, after, reference.masked_probability, other_probability=reference.probability)
    return figures


def _right(logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> Tensor:
    broken = logits.isnan().any(1)  # NaN counts as the largest: it would win, and could be right
    return ((logits.argmax(1) == labels) & ~broken).float()


def _agreement(look: NetworkOutput, reference: NetworkOutput) -> Figures:
    return {
        "agreement": top_one_agreement(look.logits, reference.logits),
        "output_kl": output_kl(look.logits, reference.logits),
        "map_cosine": map_cosine(look.maps, reference.maps),
        "map_pearson": map_pearson(look.maps, reference.maps),
        "map_spearman": map_spearman(look.maps, reference.maps),
        "map_ssim": map_ssim(look.maps, reference.maps),
        "map_top_iou": map_top_iou(look.maps, reference.maps),
        "map_jensen_shannon": map_jensen_shannon(look.maps, reference.maps),
    }


def _localisation(look: NetworkOutput, instances: Tensor) -> Figures:
    objects = instances != 0
    return {
        "energy_in_object": energy_in_mask(look.maps, objects),
        "pointing_game": pointing_game(look.maps, objects),
        "box_localization_0": box_localization(look.maps, objects, delta=0.0),
        "box_localization_25": box_localization(look.maps, objects, delta=0.25),
        "box_localization_50": box_localization(look.maps, objects, delta=0.5),
        "instances_hit": instances_hit(look.maps, instances),
    }


def _shape(look: NetworkOutput) -> Figures:
    return {"complexity": complexity(look.maps), "gini": gini(look.maps), "entropy": entropy(look.maps)}


def _rates(look: NetworkOutput) -> Figures:
    return {
        "zero_maps": zero_map(look.raw),
        "nan_maps": nan_map(look.raw),
        "constant_maps": constant_map(look.raw),
    }


def cosine_floor(
    maps: Float[Tensor, "n *s"],
    reference_maps: Float[Tensor, "n *t"],
    others: Int64[ndarray, " n"],
    *,
    size: Sequence[int],
    batch_size: int,
) -> Float[Tensor, " n"]:
    """Compare every map with the reference's map of another image.

    Args:
        maps: Raw, of the network that is judged.
        reference_maps: Raw, of the reference, of the same images.
        others: Position of that other image, for every image; NaN (no score) where it is the image itself.
        size: That of the images; both are brought to it.
        batch_size: Maps of that size at a time; bounds the memory.
    """
    partner = torch.as_tensor(others, device=maps.device)
    scores = torch.cat(
        [
            map_cosine(resize_maps(maps[index], size), resize_maps(reference_maps[partner[index]], size))
            for index in torch.arange(len(maps), device=maps.device).split(batch_size)
        ]
    )
    return torch.where(partner == torch.arange(len(maps), device=maps.device), torch.nan, scores)


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
        columns: By names of :data:`distill.metrics.names.MEASURES`, and ``EXPLAINER/figure`` for held-out explainers.
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


def score_images(subject: EvaluationJob, *, masked: bool, seed: int) -> SetScores:
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
        others = other_images(len(block), seed=seed, stream=number)
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


def _score(side: ComparedNetworks, looks: BatchOutputs, piece: EvaluationBatch, *, masked: bool) -> dict[str, Figures]:
    with torch.no_grad():
        shown = mask_and_rerun(side, looks, piece) if masked else {}
        scored = {}
        for network, look in looks.networks.items():
            compared = network in side.others
            reference: NetworkOutput | None = looks.networks[str(side.reference)] if compared else None
            figures = _answer(look) | score_batch(look, reference, piece)
            if masked:
                figures |= score_masked(look, shown[network], shown[str(side.reference)] if compared else None)
            scored[network] = {name: scores.cpu() for name, scores in figures.items()}
    return scored


def _answer(look: NetworkOutput) -> Figures:
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
