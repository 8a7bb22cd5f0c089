"""Open the teacher's cache of a run: its stores for training views and for test sets, checked for room."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.build.networks import teacher_hash
from distill.config import Config
from distill.data import DecodedImages, ImageSet, Views
from distill.errors import InputError
from distill.evaluation import ComparedNetworks, EvaluationCache, MapSettings
from distill.explain import PairExplainer
from distill.models import StagedNetwork, describe
from distill.teachers import (
    CacheSize,
    ViewStore,
    estimate_size,
    open_journal,
)
from distill.teachers.cache import MapKey, TeacherCache
from distill.training import DistillationModule
from distill.training.fit import resolve_precision

FOLDER = "teacher_cache"


def add_cache(
    config: Config, module: DistillationModule, train: ImageSet, validation: ImageSet, views: Views
) -> CacheSize | None:
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
    pairs = _map_keys(module)
    images = train.images[:2].float() / 255
    with torch.no_grad():
        output = teacher(images, sorted({kind.layer for kind in pairs}))
        shapes = {
            kind: tuple(pair.teacher.from_output(output, train.labels[:2]).shape[1:]) for kind, pair in pairs.items()
        }
    widths = {kind: int(np.prod(shape)) for kind, shape in shapes.items()}
    folder = cache_folder(config)
    common = {
        "teacher": teacher_hash(section),
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
    rows = count_views(views, len(train), seed=config.data.seed, epochs=config.max_epochs)
    there = min(len(one) for one in (logits, *maps.values()))
    total = estimate_size(rows, images=len(train), width=classes + sum(widths.values()), cached=there, folder=folder)
    module.cache = TeacherCache(logits, maps, pairs, shapes)
    plain = store(validation, views.count, classes, field="logits")
    module.validation_cache = TeacherCache(plain, {}, {}, {})
    return total


def cache_folder(config: Config) -> Path | None:
    """Give the folder of a cache on disk, None for one in memory."""
    if config.teacher is None or config.teacher.cache != "disk":
        return None
    return Path(config.teacher.cache_dir or Path(config.output_dir) / FOLDER)


def count_views(views: Views, images: int, *, seed: int, epochs: int) -> int:
    """Count the views that so many epochs meet, each of an image once."""
    met = torch.zeros(images, views.count, dtype=torch.bool)
    for epoch in range(epochs):
        met[torch.arange(images), views.draw(images, seed=seed, epoch=epoch)] = True
    return int(met.sum())


def _map_keys(module: DistillationModule) -> Mapping[MapKey, PairExplainer]:
    live = {name: by_layer for name, by_layer in module.explainers.items() if name not in module.frozen}
    for name, by_layer in live.items():
        if any(MapKey.of(pair).policy == "student" for pair in by_layer.values()):
            raise InputError(
                f"teacher.cache: objective.{name}.target is student, and which class the student puts first changes "
                "with every step, so the teacher's map of it cannot be kept; choose label or teacher, or cache=off."
            )
    return {MapKey.of(pair): pair for by_layer in live.values() for pair in by_layer.values()}


def _precision(config: Config) -> str | int:
    trainer = config.trainer
    return resolve_precision(trainer.get("precision", "auto"), str(trainer.get("accelerator", "auto")))


def checksum(data: ImageSet) -> str:
    """Tell one set of images and labels from another."""
    held: object = data.images
    images = held.checksum() if isinstance(held, DecodedImages) else zlib.crc32(data.images.contiguous().numpy().data)
    return f"{len(data)}-{images:08x}-{zlib.crc32(data.labels.contiguous().numpy().data):08x}"


def open_evaluation_cache(
    config: Config, name: str, teacher: StagedNetwork, sets: Mapping[str, ImageSet], maps: MapSettings
) -> dict[str, dict[str, EvaluationCache]]:
    """Open what the teacher of a run is known to say of test sets.

    Args:
        config: The run; nothing is kept unless its ``teacher.cache`` is ``disk``.
        name: Of the teacher, as ``maps`` and the evaluation know it.
        teacher: In evaluation mode, on the CPU.
        sets: Test sets by name.
        maps: How networks are explained.

    Returns:
        By test set and network, as :func:`distill.evaluation.evaluate` takes it.

    Raises:
        InputError: if the folder holds something else.
    """
    folder = cache_folder(config)
    if config.teacher is None or folder is None:
        return {}
    side = ComparedNetworks({name: teacher}, name, maps)
    explainer = side.explainer(name)
    key = {
        "field": "look",
        "teacher": teacher_hash(config.teacher),
        "network": describe(teacher),
        "method": explainer.method,
        "layer": explainer.layer,
        "policy": maps.target,
    }
    known = {}
    for test_set, data in sets.items():
        look = side.run(data.images[:2].float() / 255, data.labels[:2]).networks[name]
        (classes,), (height, width) = look.logits.shape[1:], look.raw.shape[1:]
        row = classes + height * width
        journal = open_journal(folder, {**key, "images": checksum(data)}, width=row)
        store = ViewStore(images=len(data), views=1, width=row, journal=journal)
        known[test_set] = {name: EvaluationCache(store, (height, width))}
    return known
