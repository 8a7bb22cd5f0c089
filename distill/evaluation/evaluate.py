"""`evaluate`: compares networks on test sets and returns a record of accuracy, fidelity and map metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from distill.data.imageset import ImageSet
from distill.errors import InputError
from distill.evaluation.aggregate import compare_networks, summarise
from distill.evaluation.deletion_insertion import score_perturbed
from distill.evaluation.held_out import make_explainers, score_held_out
from distill.evaluation.image_scores import ImageScores, score_images
from distill.evaluation.job import ComparedNetworks, EvaluationJob, Progress, evaluation_mode
from distill.evaluation.sampling import sample
from distill.evaluation.sanity import score_randomised
from distill.evaluation.settings import PIPELINE, POLICIES, EvaluationSettings, MapSettings, choose_batch_size
from distill.models import StagedNetwork
from distill.report.evaluation.record import EvaluationRecord, SetRecord
from distill.teachers.evaluation_cache import EvaluationCache

#: Scores of every image, by test set and network.
Scores = dict[str, dict[str, ImageScores]]


class EvaluationResult(NamedTuple):
    """The record of an evaluation, and the scores of every image that it was computed from."""

    record: EvaluationRecord
    scores: Scores


def evaluate(
    networks: Mapping[str, StagedNetwork],
    *,
    reference: str | None,
    sets: Mapping[str, ImageSet],
    ceiling: str | None = None,
    maps: MapSettings | None = None,
    settings: EvaluationSettings | None = None,
    split: str = "test",
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    caches: Mapping[str, Mapping[str, EvaluationCache]] | None = None,
) -> EvaluationResult:
    """Evaluate networks on every test set, and compare them with a reference and with each other.

    Convention:
        - Every network runs once per batch, and its maps are computed from that forward pass. Everything that needs
          more passes is an option of ``settings``.
        - All maps of an image explain the same class.
        - The networks are returned unchanged: the mode of every module, device, gradients and statistics.

    Args:
        networks: Networks by the name that they have in the record.
        reference: Name of the network that the others are compared with, usually the teacher; None: no reference.
        sets: Test sets by name.
        ceiling: Name of the network that is a second training of the reference; it is measured like any other.
        maps: How networks are explained; default: Grad-CAM++ of the label at layer ``final``.
        settings: What is measured beyond one forward pass; default: everything.
            :data:`distill.evaluation.ONE_PASS`: nothing.
        split: Name of the split that the sets belong to, for the record.
        batch_size: Number of images that are processed at a time; default: see :func:`choose_batch_size`.
        device: Device to compute on.
        progress: Called after every batch with the name of the step, the work done so far and the total work. For the
            first pass these are the name of the set and numbers of images.
        caches: Caches of outputs on these images with the same settings, by test set and network; missing outputs are
            computed and added.

    Returns:
        A record of plain values, see :mod:`distill.report.evaluation.record`, and the scores of every image.

    Raises:
        InputError: if networks or sets have different classes, or a name is unknown.
    """
    maps, settings = maps or MapSettings(), settings or EvaluationSettings()
    compared = ComparedNetworks(networks, reference, maps)
    if ceiling is not None and ceiling not in compared.others:
        raise InputError(
            f"`ceiling` must name a network other than the reference, and needs a reference; got {ceiling!r}."
        )
    if not sets:
        raise InputError("`sets` is empty; give at least one test set.")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"`batch_size` must be at least 1, got {batch_size}.")
    make_explainers(compared, settings.held_out)
    for name, data in sets.items():
        compared.check(name, data)
    records: dict[str, SetRecord] = {}
    scores: Scores = {}
    with evaluation_mode(networks, device):
        for name, data in sets.items():
            size = batch_size or choose_batch_size(*data.images.shape[2:])
            job = EvaluationJob(compared, name, data, size, device, progress, (caches or {}).get(name, {}))
            records[name], scores[name] = _evaluate_set(job, settings)
    record: EvaluationRecord = {
        "format": 2,
        "reference": reference,
        "ceiling": ceiling,
        "split": split,
        "classes": list(compared.classes),
        "maps": {
            "method": maps.method,
            "target": maps.target,
            "class_policy": POLICIES[maps.target],
            "pipeline": PIPELINE,
            "perturbation": settings.describe(),
        },
        "networks": {
            name: {
                "architecture": network.spec.name,
                "parameters": sum(parameter.numel() for parameter in network.parameters()),
                "layer": compared.explainer(name).layer,
                "run": None,
                "seed": None,
                "weights": None,
            }
            for name, network in networks.items()
        },
        "sets": records,
    }
    return EvaluationResult(record, scores)


def _evaluate_set(job: EvaluationJob, settings: EvaluationSettings) -> tuple[SetRecord, dict[str, ImageScores]]:
    data, seed = job.data, settings.seed
    scores, object_share = score_images(job, masked=settings.masked, seed=seed)
    for_curves = sample(len(data), settings.perturbed, seed=seed)
    perturbed = score_perturbed(job, for_curves, steps=settings.steps) if for_curves else {}
    for_held_out = sample(len(data), settings.explained if settings.held_out else 0, seed=seed)
    held_out = score_held_out(job, for_held_out, methods=settings.held_out, seed=seed) if for_held_out else {}
    for_sanity = sample(len(data), settings.sanity, seed=seed)
    sanity = score_randomised(job, for_sanity, seed=seed) if for_sanity else {}
    for name, one in scores.items():
        held_out_figures = {
            f"{method}/{figure}": column
            for method, figures in held_out.get(name, {}).items()
            for figure, column in figures.items()
        }
        areas = perturbed[name].figures if name in perturbed else {}
        scores[name] = one.add_figures(areas, for_curves).add_figures(held_out_figures, for_held_out)
    record: SetRecord = {
        "n": len(data),
        "localisation": "masks" if data.masks is not None else "boxes" if data.boxes is not None else None,
        "object_share": object_share,
        "networks": {
            name: summarise(one, settings=settings, perturbed=perturbed.get(name), sanity=sanity.get(name))
            for name, one in scores.items()
        },
        "comparisons": compare_networks(scores, reference=job.networks.reference, settings=settings)
        if settings.compared
        else [],
    }
    return record, scores
