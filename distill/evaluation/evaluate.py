"""Networks -> a record: how right, how faithful to the reference, and looking where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from distill.data.imageset import ImageSet
from distill.errors import InputError
from distill.evaluation.aggregate import compare, summarise
from distill.evaluation.deletion_insertion import score_perturbed
from distill.evaluation.held_out import make_explainers, score_held_out
from distill.evaluation.image_scores import ImageScores, score_images
from distill.evaluation.networks import ComparedNetworks, EvaluationJob, Progress, evaluation_mode
from distill.evaluation.sampling import sample
from distill.evaluation.sanity import score_randomised
from distill.evaluation.settings import PIPELINE, POLICIES, EvaluationSettings, MapSettings, choose_batch_size
from distill.models import StagedNetwork
from distill.report.evaluation.record import EvaluationRecord, SetRecord
from distill.teachers.evaluation_cache import EvaluationCache

#: Scores of every image, by test set and network.
Scores = dict[str, dict[str, ImageScores]]


class EvaluationResult(NamedTuple):
    """The record, and the scores that it is made of."""

    record: EvaluationRecord
    scores: Scores


def evaluate(
    networks: Mapping[str, StagedNetwork],
    *,
    reference: str | None,
    sets: Mapping[str, ImageSet],
    ceiling: str | None = None,
    maps: MapSettings | None = None,
    extent: EvaluationSettings | None = None,
    split: str = "test",
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    known: Mapping[str, Mapping[str, EvaluationCache]] | None = None,
) -> EvaluationResult:
    """Compare networks with a reference, with the objects in the images and with each other, on every test set.

    Convention:
        - One forward pass a network and batch; its maps come out of that pass. What costs more is in ``extent``.
        - All maps of an image explain the same class.
        - Networks come back as they were: modes of all parts, device, gradients and statistics.

    Args:
        networks: By the name that the record shall give them.
        reference: The name among them that the others are compared with, usually the teacher's; None: with none.
        sets: Test sets by name.
        ceiling: The name among them of a second training of the reference; it is measured like any other.
        maps: How networks are explained; Grad-CAM++ of the label at ``final`` if left out.
        extent: What is measured beyond one pass; all if left out, and nothing with :data:`ONE_PASS`.
        split: Name of the split that the sets are of, for the record.
        batch_size: Images at a time; see :func:`choose_batch_size`.
        device: Where to compute.
        progress: Called after every batch with what is being done, how much of it is done and how much there is;
            for the one pass with the set's name and its images.
        known: By test set and network, what was said of these images before, with the same settings; what is missing
            there is added.

    Returns:
        A record of plain values, see :mod:`distill.report.evaluation.record`, and the scores of every image.

    Raises:
        InputError: if networks or sets have different classes, or something named does not exist.
    """
    settings, extent = maps or MapSettings(), extent or EvaluationSettings()
    side = ComparedNetworks(networks, reference, settings)
    if ceiling is not None and ceiling not in side.others:
        raise InputError(f"the ceiling {ceiling!r} must be one of the networks, beside a reference.")
    if not sets:
        raise InputError("nothing to evaluate on: give at least one test set.")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"`batch_size` must be at least 1, got {batch_size}.")
    make_explainers(side, extent.held_out)
    for name, data in sets.items():
        side.check(name, data)
    records: dict[str, SetRecord] = {}
    scores: Scores = {}
    with evaluation_mode(networks, device):
        for name, data in sets.items():
            size = batch_size or choose_batch_size(*data.images.shape[2:])
            subject = EvaluationJob(side, name, data, size, device, progress, (known or {}).get(name, {}))
            records[name], scores[name] = _on_set(subject, extent)
    record: EvaluationRecord = {
        "format": 2,
        "reference": reference,
        "ceiling": ceiling,
        "split": split,
        "classes": list(side.classes),
        "maps": {
            "method": settings.method,
            "target": settings.target,
            "class_policy": POLICIES[settings.target],
            "pipeline": PIPELINE,
            "perturbation": extent.describe(),
        },
        "networks": {
            name: {
                "architecture": net.spec.name,
                "parameters": sum(parameter.numel() for parameter in net.parameters()),
                "layer": side.explainer(name).layer,
                "run": None,
                "seed": None,
                "weights": None,
            }
            for name, net in networks.items()
        },
        "sets": records,
    }
    return EvaluationResult(record, scores)


def _on_set(subject: EvaluationJob, extent: EvaluationSettings) -> tuple[SetRecord, dict[str, ImageScores]]:
    data, side = subject.data, subject.side
    scores, object_share = score_images(subject, masked=extent.masked, seed=extent.seed)
    drawn = sample(len(data), extent.perturbed, seed=extent.seed)
    perturbed = score_perturbed(subject, drawn, steps=extent.steps) if drawn else {}
    shown = sample(len(data), extent.explained if extent.held_out else 0, seed=extent.seed)
    held_out = score_held_out(subject, shown, methods=extent.held_out, seed=extent.seed) if shown else {}
    few = sample(len(data), extent.sanity, seed=extent.seed)
    sanity = score_randomised(subject, few, seed=extent.seed) if few else {}
    for network, one in scores.items():
        by_others = {
            f"{method}/{figure}": column
            for method, figures in held_out.get(network, {}).items()
            for figure, column in figures.items()
        }
        curves = perturbed[network].figures if network in perturbed else {}
        scores[network] = one.with_some(curves, drawn).with_some(by_others, shown)
    record: SetRecord = {
        "n": len(data),
        "localisation": "masks" if data.masks is not None else "boxes" if data.boxes is not None else None,
        "object_share": object_share,
        "networks": {
            network: summarise(one, extent=extent, perturbed=perturbed.get(network), sanity=sanity.get(network))
            for network, one in scores.items()
        },
        "comparisons": compare(scores, reference=side.reference, extent=extent) if extent.compared else [],
    }
    return record, scores
