"""The teacher's cache of a run: which stores it needs, whose they are, and whether there is room."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.cache import Need, ViewStore, need, open_journal
from distill.config import Config
from distill.data import DecodedImages, ImageSet, Views
from distill.errors import InputError
from distill.explain import PairExplainer
from distill.models import describe, file_hash
from distill.training import DistillationModule
from distill.training.precision import resolve_precision
from distill.training.teacher_cache import MapKind, TeacherCache

FOLDER = "teacher_cache"


def add_cache(
    config: Config, module: DistillationModule, train: ImageSet, validation: ImageSet, views: Views
) -> Need | None:
    """Give a module the caches that its configuration asks for, and say how large the one of training will be.

    Raises:
        InputError: if the objective cannot be cached, there is no room, or the folder holds something else.
    """
    section, teacher = config.teacher, module.teacher
    if section is None or teacher is None or section.cache == "off":
        return None
    if config.data.augment.colour_jitter is not None:
        raise InputError(
            "teacher.cache: data.augment.colour_jitter draws new colours for every image in every epoch, so what the "
            "teacher says of a view is never asked for again; leave out one of the two."
        )
    pairs = _kinds(module)
    images = train.images[:2].float() / 255
    with torch.no_grad():
        output = teacher(images, sorted({kind.layer for kind in pairs}))
        shapes = {
            kind: tuple(pair.teacher.from_output(output, train.labels[:2]).shape[1:]) for kind, pair in pairs.items()
        }
    widths = {kind: int(np.prod(shape)) for kind, shape in shapes.items()}
    folder = cache_folder(config)
    common = {
        "teacher": file_hash(section.checkpoint),
        "network": describe(teacher.network),
        "views": {"pad": views.pad, "flip": views.flip, "padding": views.padding},
        "precision": str(_precision(config)),
    }

    def store(data: ImageSet, count: int, width: int, **field: Any) -> ViewStore:
        key = {**common, "images": checksum(data), **field}
        journal = open_journal(folder, key, width=width) if folder else None
        return ViewStore(images=len(data), views=count, width=width, journal=journal)

    classes = output.logits.shape[1]
    logits = store(train, views.count, classes, field="logits")
    maps = {kind: store(train, views.count, width, field="map", **kind._asdict()) for kind, width in widths.items()}
    rows = views_met(views, len(train), seed=config.data.seed, epochs=config.max_epochs)
    there = min(len(one) for one in (logits, *maps.values()))
    total = need(rows, images=len(train), width=classes + sum(widths.values()), there=there, folder=folder)
    module.cache = TeacherCache(logits, maps, pairs, shapes)
    plain = store(validation, views.count, classes, field="logits")
    module.validation_cache = TeacherCache(plain, {}, {}, {})
    return total


def cache_folder(config: Config) -> Path | None:
    """Give the folder of a cache on disk, None for one in memory."""
    if config.teacher is None or config.teacher.cache != "disk":
        return None
    return Path(config.teacher.cache_dir or Path(config.output_dir) / FOLDER)


def views_met(views: Views, images: int, *, seed: int, epochs: int) -> int:
    """Count the views that so many epochs meet, each of an image once."""
    met = torch.zeros(images, views.count, dtype=torch.bool)
    for epoch in range(epochs):
        met[torch.arange(images), views.draw(images, seed=seed, epoch=epoch)] = True
    return int(met.sum())


def _kinds(module: DistillationModule) -> Mapping[MapKind, PairExplainer]:
    live = {name: by_layer for name, by_layer in module.explainers.items() if name not in module.frozen}
    for name, by_layer in live.items():
        if any(MapKind.of(pair).policy == "student" for pair in by_layer.values()):
            raise InputError(
                f"teacher.cache: objective.{name}.target is student, and which class the student puts first changes "
                "with every step, so the teacher's map of it cannot be kept; choose label or teacher, or cache=off."
            )
    return {MapKind.of(pair): pair for by_layer in live.values() for pair in by_layer.values()}


def _precision(config: Config) -> str | int:
    trainer = config.trainer
    return resolve_precision(trainer.get("precision", "auto"), str(trainer.get("accelerator", "auto")))


def checksum(data: ImageSet) -> str:
    """Tell one set of images and labels from another."""
    held: object = data.images
    images = held.checksum() if isinstance(held, DecodedImages) else zlib.crc32(data.images.contiguous().numpy().data)
    return f"{len(data)}-{images:08x}-{zlib.crc32(data.labels.contiguous().numpy().data):08x}"
