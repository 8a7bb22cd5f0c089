"""The figures of every image of a batch, by the names of :data:`distill.measures.MEASURES`."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

from distill.evaluation.side_by_side import Look, Looks, SideBySide
from distill.evaluation.subject import Piece
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

#: A score an image by the name of the figure; NaN: the image has none.
Figures: TypeAlias = dict[str, Float[Tensor, " n"]]


class Shown(NamedTuple):
    """What a network says when only what its map shows is left of every image."""

    probability: Float[Tensor, " n"]
    masked_probability: Float[Tensor, " n"]
    maps: Float[Tensor, "n h w"]


def show(side: SideBySide, looks: Looks, piece: Piece) -> dict[str, Shown]:
    """Run every network once more, on the images through its own maps."""
    shown = {}
    for network, look in looks.networks.items():
        again = side.look_again(network, mask_images(piece.images, look.raw), looks.target)
        shown[network] = Shown(look.probability(looks.target), again.probability(looks.target), again.maps)
    return shown


def measure(look: Look, reference: Look | None, piece: Piece) -> Figures:
    """Measure all that one forward pass tells of a network, and of the reference beside it."""
    figures = {"accuracy": _right(look.logits, piece.labels), **_shape(look), **_rates(look)}
    if reference is not None:
        figures |= _agreement(look, reference)
    if piece.instances is not None:
        figures |= _localisation(look, piece.instances)
    return figures


def measure_shown(look: Look, shown: Shown, reference: Shown | None) -> Figures:
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


def _agreement(look: Look, reference: Look) -> Figures:
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


def _localisation(look: Look, instances: Tensor) -> Figures:
    objects = instances != 0
    return {
        "energy_in_object": energy_in_mask(look.maps, objects),
        "pointing_game": pointing_game(look.maps, objects),
        "box_localization_0": box_localization(look.maps, objects, delta=0.0),
        "box_localization_25": box_localization(look.maps, objects, delta=0.25),
        "box_localization_50": box_localization(look.maps, objects, delta=0.5),
        "instances_hit": instances_hit(look.maps, instances),
    }


def _shape(look: Look) -> Figures:
    return {"complexity": complexity(look.maps), "gini": gini(look.maps), "entropy": entropy(look.maps)}


def _rates(look: Look) -> Figures:
    return {
        "zero_maps": zero_map(look.raw),
        "nan_maps": nan_map(look.raw),
        "constant_maps": constant_map(look.raw),
    }
