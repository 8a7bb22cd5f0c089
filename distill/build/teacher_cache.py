"""Open the teacher cache of a run: stores for training views and test sets, with a check of the free space."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.build.networks import teacher_hash
from distill.config import AugmentSection, Config, TeacherSection
from distill.data import AnyViews, DecodedImages, EpochSampler, ImageSet, TransformedViews, Views
from distill.data.balanced import draw_views
from distill.errors import InputError, warn_input
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
from distill.training.trainer import resolve_precision
from distill.types import Batch

FOLDER = "teacher_cache"


def add_cache(
    config: Config, module: DistillationModule, train: ImageSet, validation: ImageSet, views: AnyViews, batch: Batch
) -> CacheSize | None:
    """Add the configured teacher caches to a module, and return the estimated size of the training cache.

    Args:
        config: The configuration of the run.
        module: The module of the run.
        train: The training images.
        validation: The validation images.
        views: The views of the training images.
        batch: Training images in a view, in [0, 1], which determine the sizes of the maps.

    Returns:
        The size, or None if the run uses no cache.

    Raises:
        InputError: if the objective cannot be cached, the space is too small, or the folder contains other files.
    """
    section, teacher = config.teacher, module.teacher
    if section is None or teacher is None or section.cache == "off":
        return None
    if isinstance(config.data.augment, AugmentSection) and config.data.augment.colour_jitter is not None:
        raise InputError(
            "teacher.cache: data.augment.colour_jitter changes the colours of each image in every epoch, so cached "
            "outputs of the teacher would never be used again. Remove data.augment.colour_jitter, or set "
            "teacher.cache=off."
        )
    if isinstance(views, TransformedViews):
        _check_repetition(views, config)
    pairs = _cached_explainers(module)
    with torch.no_grad():
        output = teacher(batch.images, sorted({key.layer for key in pairs}))
        shapes = {key: tuple(pair.teacher.from_output(output, batch.labels).shape[1:]) for key, pair in pairs.items()}
    widths = {key: int(np.prod(shape)) for key, shape in shapes.items()}
    folder = cache_folder(config)
    common = {
        "teacher": _weights_id(section),
        "network": describe(teacher.network),
        "views": _describe_views(views, seed=config.data.seed),
        "precision": str(_precision(config)),
        **_selected(teacher.network),
    }

    count = views.count if isinstance(views, Views) else 1 + (views.limit or config.max_epochs)

    def store(data: ImageSet, width: int, **field: Any) -> ViewStore:
        key = {**common, "images": checksum(data), **field}
        journal = open_journal(folder, key, width=width) if folder else None
        by_view = isinstance(views, TransformedViews)
        return ViewStore(images=len(data), views=count, width=width, journal=journal, by_view=by_view)

    classes = output.logits.shape[1]
    logits = store(train, classes, field="logits")
    maps = {key: store(train, width, field="map", **key.fields()) for key, width in widths.items()}
    balanced = config.data.sampler == "balanced"
    sampler = EpochSampler(
        len(train), shuffle=balanced, even=False, seed=config.seed, labels=train.labels if balanced else None
    )
    rows = count_views(views, sampler, seed=config.data.seed, epochs=config.max_epochs)
    cached = min(len(one) for one in (logits, *maps.values()))
    size = estimate_size(rows, images=len(train), width=classes + sum(widths.values()), cached=cached, folder=folder)
    module.cache = TeacherCache(logits, maps, pairs, shapes)
    validation_logits = store(validation, classes, field="logits")
    module.validation_cache = TeacherCache(validation_logits, {}, {}, {})
    return size


def _check_repetition(views: TransformedViews, config: Config) -> None:
    """Check that views occur again, in this run or in another one."""
    if views.limit is not None:
        return
    advice = "Set data.augment.views to the number of views per image"
    if config.teacher is not None and config.teacher.cache == "memory":
        raise InputError(
            "teacher.cache: without data.augment.views, transforms make a new view of each image in every epoch, so "
            f"outputs in memory would never be used again. {advice}, or set teacher.cache=off."
        )
    if config.data.sampler == "balanced":
        raise InputError(
            "teacher.cache: with data.sampler=balanced and transforms, the number of views is not bounded. "
            f"{advice}, or set teacher.cache=off."
        )
    warn_input(
        f"teacher.cache: transforms make a new view of each image in every epoch, {config.max_epochs} in all, so the "
        f"outputs are used again only by other runs with the same data.seed. {advice} to bound the cache."
    )


def _describe_views(views: AnyViews, *, seed: int) -> dict[str, Any]:
    """Return all that a view depends on besides its number and the image."""
    if isinstance(views, Views):
        return {"pad": views.pad, "flip": views.flip, "padding": views.padding}
    return {"transforms": views.entries, "seed": seed, "torchvision": version("torchvision")}


def _weights_id(section: TeacherSection) -> str:
    """Return what identifies the teacher's weights: the hash of the file, and which set of weights is taken from it."""
    file = teacher_hash(section)
    return file if section.weights_key is None else f"{file}:{section.weights_key}"


def _selected(teacher: StagedNetwork) -> dict[str, list[int]]:
    """Return which classes of the teacher are used; empty for all, so that older caches stay valid."""
    return {} if teacher.columns is None else {"columns": teacher.columns.tolist()}


def cache_folder(config: Config) -> Path | None:
    """Return the folder of the cache, or None if the configuration has no cache on disk."""
    if config.teacher is None or config.teacher.cache != "disk":
        return None
    return Path(config.teacher.cache_dir or Path(config.output_dir) / FOLDER)


def count_views(views: AnyViews, sampler: EpochSampler, *, seed: int, epochs: int) -> int:
    """Count the distinct views of all images that are used in ``epochs`` epochs."""
    if isinstance(views, TransformedViews) and views.limit is None:
        return sampler.n * epochs
    count = views.count if isinstance(views, Views) else 1 + (views.limit or 0)
    used = torch.zeros(sampler.n, count, dtype=torch.bool)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        order = sampler.order_with_repeats()
        used[order.positions, draw_views(views, order, sampler.n, seed=seed, epoch=epoch)] = True
    return int(used.sum())


def _cached_explainers(module: DistillationModule) -> Mapping[MapKey, PairExplainer]:
    live = {name: by_layer for name, by_layer in module.explainers.items() if name not in module.frozen}
    for name, by_layer in live.items():
        if any(MapKey.of(pair).policy == "student" for pair in by_layer.values()):
            raise InputError(
                f"teacher.cache: objective.{name}.target is 'student'. The student's predicted class changes during "
                "training, so the teacher's map of it cannot be cached. Set the target to 'label' or 'teacher', or "
                "set teacher.cache=off."
            )
    return {MapKey.of(pair): pair for by_layer in live.values() for pair in by_layer.values()}


def _precision(config: Config) -> str | int:
    trainer = config.trainer
    return resolve_precision(trainer.get("precision", "auto"), str(trainer.get("accelerator", "auto")))


def checksum(data: ImageSet) -> str:
    """Return a checksum of the images and labels of a data set."""
    stored: object = data.images
    images = (
        stored.checksum() if isinstance(stored, DecodedImages) else zlib.crc32(data.images.contiguous().numpy().data)
    )
    return f"{len(data)}-{images:08x}-{zlib.crc32(data.labels.contiguous().numpy().data):08x}"


def open_evaluation_cache(
    config: Config, name: str, teacher: StagedNetwork, sets: Mapping[str, ImageSet], maps: MapSettings
) -> dict[str, dict[str, EvaluationCache]]:
    """Open the cache of a teacher's logits and maps on test sets.

    Args:
        config: The configuration of the run. Nothing is cached unless its ``teacher.cache`` is ``disk``.
        name: Name of the teacher in ``maps`` and in the evaluation.
        teacher: The teacher, in evaluation mode and on the CPU.
        sets: Test sets by name.
        maps: Settings of the maps.

    Returns:
        Caches by test set and network, as :func:`distill.evaluation.evaluate` takes them.

    Raises:
        InputError: if the folder contains other files.
    """
    folder = cache_folder(config)
    if config.teacher is None or folder is None:
        return {}
    compared = ComparedNetworks({name: teacher}, name, maps)
    explainer = compared.explainer(name)
    key = {
        "field": "look",
        "teacher": _weights_id(config.teacher),
        "network": describe(teacher),
        "method": explainer.method,
        "layer": explainer.layer,
        "policy": maps.target,
        **_selected(teacher),
        **({} if explainer.layout == "auto" else {"layout": explainer.layout}),
    }
    caches = {}
    for test_set, data in sets.items():
        output = compared.run(data.images[:2].float() / 255, data.labels[:2]).networks[name]
        (classes,), (height, width) = output.logits.shape[1:], output.raw.shape[1:]
        values = classes + height * width
        journal = open_journal(folder, {**key, "images": checksum(data)}, width=values)
        store = ViewStore(images=len(data), views=1, width=values, journal=journal)
        caches[test_set] = {name: EvaluationCache(store, (height, width))}
    return caches
