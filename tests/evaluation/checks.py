"""A small set of images with objects, and networks for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from distill.data.imageset import ImageSet
from distill.evaluation import ONE_PASS, evaluate
from distill.models import StagedNetwork, create_model
from distill.report import EvaluationRecord
from tests.conftest import randomize_statistics

CLASSES = ("bag", "boot", "coat")


def image_set(
    count: int = 10, *, masks: bool = True, boxes: bool = True, classes: tuple[str, ...] = CLASSES
) -> ImageSet:
    """Noise of 16 x 16 with a bright square each; the last image has no object."""
    generator = torch.Generator().manual_seed(11)
    images = torch.randint(0, 120, (count, 3, 16, 16), dtype=torch.uint8, generator=generator)
    all_masks = torch.zeros(count, 16, 16, dtype=torch.uint8)
    all_boxes = torch.zeros(count, 2, 4, dtype=torch.int64)
    for i in range(count - 1):
        x, y = i % 8, (3 * i) % 8
        images[i, :, y : y + 8, x : x + 8] = 200
        all_masks[i, y : y + 8, x : x + 8] = 1
        all_boxes[i, 0] = torch.tensor([x, y, x + 8, y + 8])
    labels = torch.arange(count) % len(classes)
    return ImageSet(images, labels, classes, all_boxes if boxes else None, all_masks if masks else None)


def network(
    seed: int, *, classes: tuple[str, ...] = CLASSES, num_classes: int = 3, name: str = "wrn_10_1"
) -> StagedNetwork:
    torch.manual_seed(seed)
    net = create_model(name, num_classes=num_classes, classes=classes)
    randomize_statistics(net)
    return net


def record_of(
    networks: Mapping[str, StagedNetwork], data: ImageSet, *, reference: str | None = "teacher", **options: Any
) -> EvaluationRecord:
    """Record on one test set called `plain`; one pass unless `settings` is given."""
    options = {"settings": ONE_PASS, **options}
    return evaluate(networks, reference=reference, sets={"plain": data}, **options).record


def figures_of(
    networks: Mapping[str, StagedNetwork], data: ImageSet, *, of: str = "student", **options: Any
) -> dict[str, Any]:
    """The figures of one network."""
    figures: dict[str, Any] = record_of(networks, data, **options)["sets"]["plain"]["networks"][of]["figures"]
    return figures
