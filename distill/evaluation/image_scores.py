"""Per-image scores, from which all means and paired comparisons are computed."""

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
from distill.evaluation.job import BatchOutputs, ComparedNetworks, EvaluationBatch, EvaluationJob, NetworkOutput
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

#: Scores of all images, by the name of the figure; NaN: the image has no score.
Figures: TypeAlias = dict[str, Float[Tensor, " n"]]


class MaskedOutput(NamedTuple):
    """Probability of the explained class before and after masking, and the maps of the masked images."""

    probability: Float[Tensor, " n"]
    masked_probability: Float[Tensor, " n"]
    maps: Float[Tensor, "n h w"]


def mask_and_rerun(
    networks: ComparedNetworks, outputs: BatchOutputs, batch: EvaluationBatch
) -> dict[str, MaskedOutput]:
    """Run every network once more, on the images masked by its own maps."""
    masked = {}
    for name, output in outputs.networks.items():
        again = networks.rerun(name, mask_images(batch.images, output.raw), outputs.target)
        before, after = output.probability(outputs.target), again.probability(outputs.target)
        masked[name] = MaskedOutput(before, after, again.maps)
    return masked


def score_batch(output: NetworkOutput, reference: NetworkOutput | None, batch: EvaluationBatch) -> Figures:
    """Compute all figures that need one forward pass of the network, and of the reference if there is one."""
    figures = {
        "accuracy": _correct(output.logits, batch.labels),
        "complexity": complexity(output.maps),
        "gini": gini(output.maps),
        "entropy": entropy(output.maps),
        "zero_maps": zero_map(output.raw),
        "nan_maps": nan_map(output.raw),
        "constant_maps": constant_map(output.raw),
    }
    if reference is not None:
        figures |= _agreement(output, reference)
    if batch.instances is not None:
        figures |= _localisation(output, batch.instances)
    return figures


def score_masked(output: NetworkOutput, masked: MaskedOutput, reference: MaskedOutput | None) -> Figures:
    """Compute all figures that compare the network's outputs before and after the images were masked by its maps."""
    before, after = masked.probability, masked.masked_probability
    figures = {
        "average_drop": average_drop(before, after),
        "increase_in_confidence": increase_in_confidence(before, after),
        "coherency": coherency(output.maps, masked.maps),
    }
    if reference is not None:
        figures["win_rate"] = win(before, after, reference.masked_probability, other_probability=reference.probability)
    return figures


def _correct(logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> Tensor:
    has_nan = logits.isnan().any(1)  # argmax takes NaN for the largest value, which could be the label
    return ((logits.argmax(1) == labels) & ~has_nan).float()


def _agreement(output: NetworkOutput, reference: NetworkOutput) -> Figures:
    return {
        "agreement": top_one_agreement(output.logits, reference.logits),
        "output_kl": output_kl(output.logits, reference.logits),
        "map_cosine": map_cosine(output.maps, reference.maps),
        "map_pearson": map_pearson(output.maps, reference.maps),
        "map_spearman": map_spearman(output.maps, reference.maps),
        "map_ssim": map_ssim(output.maps, reference.maps),
        "map_top_iou": map_top_iou(output.maps, reference.maps),
        "map_jensen_shannon": map_jensen_shannon(output.maps, reference.maps),
    }


def _localisation(output: NetworkOutput, instances: Tensor) -> Figures:
    objects = instances != 0
    return {
        "energy_in_object": energy_in_mask(output.maps, objects),
        "pointing_game": pointing_game(output.maps, objects),
        "box_localization_0": box_localization(output.maps, objects, delta=0.0),
        "box_localization_25": box_localization(output.maps, objects, delta=0.25),
        "box_localization_50": box_localization(output.maps, objects, delta=0.5),
        "instances_hit": instances_hit(output.maps, instances),
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
        maps: Raw maps of the network that is evaluated.
        reference_maps: Raw maps of the reference for the same images.
        others: Position of the other image, for every image; the score is NaN where it is the image itself.
        size: Height and width of the images; both maps are resized to it.
        batch_size: Number of maps that are resized at a time; bounds the memory.
    """
    partner = torch.as_tensor(others, device=maps.device)
    scores = torch.cat(
        [
            map_cosine(resize_maps(maps[index], size), resize_maps(reference_maps[partner[index]], size))
            for index in torch.arange(len(maps), device=maps.device).split(batch_size)
        ]
    )
    return torch.where(partner == torch.arange(len(maps), device=maps.device), torch.nan, scores)


#: Names of the strata, in the order of their codes.
STRATA: tuple[Stratum, ...] = get_args(Stratum)


class Column(NamedTuple):
    """One figure of every image: NaN where an image has no score.

    ``measured`` is True where the figure was measured; None: it was measured for all images.
    """

    values: Float32[np.ndarray, " n"]
    measured: Bool[np.ndarray, " n"] | None = None


@dataclass(frozen=True)
class ImageScores:
    """Scores of one network on one test set, with one entry per image.

    Args:
        label: Class of the image.
        predicted: The class with the largest probability.
        probability: Softmax probability of that class.
        stratum: Code of :data:`STRATA`; None for the reference and without a reference.
        columns: Figures by names of :data:`distill.metrics.names.METRIC_INFO`, and by ``EXPLAINER/figure`` for held-out
            explainers.
    """

    label: Int64[np.ndarray, " n"]
    predicted: Int64[np.ndarray, " n"]
    probability: Float32[np.ndarray, " n"]
    stratum: Int8[np.ndarray, " n"] | None
    columns: dict[str, Column]

    def add_figures(self, figures: Figures, positions: Sequence[int]) -> ImageScores:
        """Return a copy with figures that were measured only for the images at some positions."""
        measured = np.zeros(len(self.label), dtype=bool)
        measured[positions] = True
        columns = {}
        for name, scores in figures.items():
            values = np.full(len(measured), np.nan, dtype=np.float32)
            values[positions] = scores.float().cpu().numpy()
            columns[name] = Column(values, measured)
        return replace(self, columns={**self.columns, **columns})


class SetScores(NamedTuple):
    """Scores of all networks on one test set, and the mean share of the image that the object covers.

    The mean is over images with an object; None if there is no such image or the set has no boxes or masks.
    """

    networks: dict[str, ImageScores]
    object_share: float | None


def score_images(job: EvaluationJob, *, masked: bool, seed: int) -> SetScores:
    """Score every image of a test set with every network, in one forward pass, or two if images are masked.

    Convention:
        - The images are split into blocks of at most 1,024. The raw maps of one block are held in memory, and the floor
          of the map cosine uses another image of the same block. No score depends on the batch size.

    Args:
        job: Networks and test set.
        masked: Whether the networks also run on the images masked by their maps.
        seed: Seed of the assignment of other images, for the floor of the map cosine.
    """
    networks, total = job.networks, len(job.data)
    split = blocks(total)
    job.report_progress("", 0, total)
    by_block: dict[str, list[Figures]] = {name: [] for name in networks.by_name}
    areas: list[Tensor] = []
    done = 0
    for number, block in enumerate(split):
        raw: dict[str, list[Tensor]] = {name: [] for name in networks.by_name}
        by_batch: dict[str, list[Figures]] = {name: [] for name in networks.by_name}
        for batch in job.batches(block):
            outputs = job.run(batch)
            for name, figures in _score_networks(networks, outputs, batch, masked=masked).items():
                by_batch[name].append(figures)
                raw[name].append(outputs.networks[name].raw)
            if batch.objects is not None:
                areas.append(batch.objects.flatten(1).float().mean(1).cpu())
            done += len(batch.labels)
            job.report_progress("", done, total)
        others = other_images(len(block), seed=seed, stream=number)
        for name, parts in by_batch.items():
            figures = _concatenate(parts)
            if name in networks.others:
                pair = torch.cat(raw[name]), torch.cat(raw[str(networks.reference)])
                floor = cosine_floor(*pair, others, size=job.image_size, batch_size=job.batch_size)
                figures["map_cosine_floor"] = floor.cpu()
            by_block[name].append(figures)
    order = np.argsort(np.concatenate(split))
    scores = {
        name: {figure: values.numpy()[order] for figure, values in _concatenate(parts).items()}
        for name, parts in by_block.items()
    }
    image_scores = {
        name: _make_scores(figures, job.data, scores[str(networks.reference)] if name in networks.others else None)
        for name, figures in scores.items()
    }
    return SetScores(image_scores, _object_share(areas))


def _score_networks(
    networks: ComparedNetworks, outputs: BatchOutputs, batch: EvaluationBatch, *, masked: bool
) -> dict[str, Figures]:
    with torch.no_grad():
        reruns = mask_and_rerun(networks, outputs, batch) if masked else {}
        scores = {}
        for name, output in outputs.networks.items():
            has_reference = name in networks.others
            reference: NetworkOutput | None = outputs.networks[str(networks.reference)] if has_reference else None
            probability, predicted = output.logits.float().softmax(1).max(1)
            figures = {"predicted": predicted, "probability": probability} | score_batch(output, reference, batch)
            if masked:
                reference_rerun = reruns[str(networks.reference)] if has_reference else None
                figures |= score_masked(output, reruns[name], reference_rerun)
            scores[name] = {figure: values.cpu() for figure, values in figures.items()}
    return scores


def _concatenate(parts: Sequence[Figures]) -> Figures:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _make_scores(
    figures: dict[str, np.ndarray], data: ImageSet, reference: dict[str, np.ndarray] | None
) -> ImageScores:
    no_columns = ("predicted", "probability")
    return ImageScores(
        label=data.labels.numpy().astype(np.int64),
        predicted=figures["predicted"].astype(np.int64),
        probability=figures["probability"].astype(np.float32),
        stratum=None if reference is None else _strata(figures, reference),
        columns={name: Column(values.astype(np.float32)) for name, values in figures.items() if name not in no_columns},
    )


def _strata(figures: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> Int8[np.ndarray, " n"]:
    correct, reference_correct = figures["accuracy"] == 1, reference["accuracy"] == 1
    same = figures["predicted"] == reference["predicted"]
    conditions = (correct & reference_correct, ~correct & reference_correct, correct & ~reference_correct, same)
    return np.select(conditions, range(4), 4).astype(np.int8)


def _object_share(areas: Sequence[Float[Tensor, " n"]]) -> float | None:
    shares = torch.cat(list(areas)).double() if areas else torch.zeros(0)
    return float(shares[shares > 0].mean()) if (shares > 0).any() else None
