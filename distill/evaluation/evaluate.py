"""Networks -> a record: how right, how faithful to the reference, and looking where."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from distill.data.imageset import ImageSet
from distill.errors import InputError
from distill.evaluation.scores import ImageScores, Progress, object_share, score_images
from distill.evaluation.side_by_side import PIPELINE, POLICIES, MapSettings, SideBySide, evaluating
from distill.metrics import MeanScore
from distill.models import StagedNetwork
from distill.report.record import EvaluationRecord, Measured, NetworkScores, SetRecord


def evaluate(
    networks: Mapping[str, StagedNetwork],
    *,
    reference: str | None,
    sets: Mapping[str, ImageSet],
    maps: MapSettings | None = None,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> EvaluationRecord:
    """Compare networks with a reference, and with the objects in the images, on every test set.

    Convention:
        - One forward pass a network and batch; its maps come out of that pass.
        - All maps of an image explain the same class.
        - Networks come back as they were: modes of all parts, device, gradients and statistics.

    Args:
        networks: By the name that the record shall give them.
        reference: The name among them that the others are compared with, usually the teacher's; None: with none.
        sets: Test sets by name.
        maps: How networks are explained; Grad-CAM++ of the label at ``final`` if left out.
        batch_size: Images at a time.
        device: Where to compute.
        progress: Called after every batch with the set's name, the images done and the images in all.

    Returns:
        A record of plain values; see :mod:`distill.report.record`.

    Raises:
        InputError: if networks or sets have different classes, or something named does not exist.
    """
    settings = maps or MapSettings()
    side = SideBySide(networks, reference, settings)
    if not sets:
        raise InputError("nothing to evaluate on: give at least one test set.")
    if batch_size < 1:
        raise InputError(f"`batch_size` must be at least 1, got {batch_size}.")
    for name, data in sets.items():
        side.check(name, data)
    with evaluating(networks, device):
        records = {
            name: _summarise(
                data,
                object_share(data, batch_size=batch_size),
                score_images(side, name, data, batch_size=batch_size, device=device, progress=progress),
            )
            for name, data in sets.items()
        }
    return {
        "format": 1,
        "reference": reference,
        "classes": list(side.classes),
        "maps": {
            "method": settings.method,
            "target": settings.target,
            "class_policy": POLICIES[settings.target],
            "pipeline": PIPELINE,
        },
        "networks": {
            name: {
                "architecture": net.spec.name,
                "parameters": sum(parameter.numel() for parameter in net.parameters()),
                "layer": settings.explainer(name).layer,
            }
            for name, net in networks.items()
        },
        "sets": records,
    }


def measured(scores: Tensor) -> Measured:
    """Take the mean of scores; those that are NaN are left out and counted.

    Example:
        >>> measured(torch.tensor([1.0, float("nan"), 0.5]))
        {'value': 0.75, 'n': 2, 'excluded': 1}
    """
    mean = MeanScore()
    mean.update(scores)
    value, n, excluded = mean.compute()
    return {"value": float(value) if n else None, "n": int(n), "excluded": int(excluded)}


def _summarise(data: ImageSet, share: float | None, scores: Mapping[str, ImageScores]) -> SetRecord:
    return {
        "n": len(data),
        "localisation": "masks" if data.masks is not None else "boxes" if data.boxes is not None else None,
        "object_share": share,
        "networks": {name: _network(columns) for name, columns in scores.items()},
    }


def _network(columns: ImageScores) -> NetworkScores:
    return {
        "accuracy": measured(columns.correct),
        "agreement": _maybe(columns.agreement),
        "map_cosine": _maybe(columns.map_cosine),
        "energy_in_object": _maybe(columns.energy_in_object),
        "zero_maps": measured(columns.zero_map),
    }


def _maybe(column: Tensor | None) -> Measured | None:
    return None if column is None else measured(column)
