"""Every metric with one batch of input for its ``update``, in which some images have no score."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import Metric

from distill.metrics import METRICS
from distill.metrics.names import METRIC_INFO as FIGURES
from tests.metrics.inputs import random

IMAGES = 7

#: Arguments of `update` by name of the metric; metrics whose name begins with `map_` take two maps.
_SHAPES: dict[str, tuple[str, ...]] = {
    "agreement": ("logits", "reference logits"),
    "output_kl": ("logits", "reference logits"),
    "calibration_error": ("probability", "hit"),
    "energy_in_object": ("maps", "masks"),
    "pointing_game": ("maps", "masks"),
    "box_localization_0": ("maps", "masks"),
    "box_localization_25": ("maps", "masks"),
    "box_localization_50": ("maps", "masks"),
    "instances_hit": ("maps", "masks"),
    "average_drop": ("probability", "probability after"),
    "increase_in_confidence": ("probability", "probability after"),
    "win_rate": ("probability", "probability after", "probability of the other"),
    "deletion_auc": ("curves", "fractions"),
    "insertion_auc": ("curves", "fractions"),
    "coherency": ("maps", "reference maps"),
    "adcc": ("probability after", "probability of the other", "probability"),
    "complexity": ("maps",),
    "gini": ("maps",),
    "entropy": ("maps",),
    "zero_maps": ("maps",),
    "nan_maps": ("maps",),
    "constant_maps": ("maps",),
}

NAMES = [name for name in FIGURES if name != "accuracy"]


def make(name: str) -> Metric:
    return METRICS[name][0]()


def arguments(name: str) -> list[Tensor]:
    """Return one entry per image, except for the fractions; some maps, masks and values are empty or NaN."""
    maps, reference = random(IMAGES, 6, 6), random(IMAGES, 6, 6, seed=4)
    maps[1], maps[4], reference[2] = 0, 0.5, torch.nan
    masks = (random(IMAGES, 9, 9, seed=5) * 4 - 2).relu().ceil().int()
    masks[3] = 0
    broken = torch.tensor([1.0, 1.0, torch.nan, 1.0, 1.0, 1.0, 1.0]).double()
    known: dict[str, Tensor] = {
        "maps": maps,
        "reference maps": reference,
        "masks": masks,
        "logits": random(IMAGES, 3, seed=6) * broken[:, None],
        "reference logits": random(IMAGES, 3, seed=7),
        "probability": random(IMAGES, seed=8) * broken,
        "probability after": random(IMAGES, seed=9),
        "probability of the other": random(IMAGES, seed=10),
        "hit": (random(IMAGES, seed=11) > 0.5).double(),
        "curves": random(IMAGES, 4, seed=12) * broken[:, None],
        "fractions": torch.tensor([0.0, 0.2, 0.5, 1.0]).double(),
    }
    return [known[what] for what in _SHAPES.get(name, ("maps", "reference maps"))]


def rows(given: list[Tensor], index: Tensor) -> list[Tensor]:
    """Some of the images of a batch."""
    return [part[index] if len(part) == IMAGES else part for part in given]


def measured(name: str, batches: list[list[Tensor]]) -> list[float]:
    """Value, n and excluded of a metric over batches."""
    metric = make(name)
    for batch in batches:
        metric.update(*batch)
    return as_floats(metric)


def as_floats(metric: Metric) -> list[float]:
    compute: Callable[[], tuple[Tensor, Tensor, Tensor]] = metric.compute
    return [float(part) for part in compute()]
