"""`cache`: fill the teacher cache on disk before the runs that use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from distill.build import BuiltRun, build, cache_folder
from distill.config import Config
from distill.data import BatchLoader
from distill.errors import InputError
from distill.malloc import keep_freed_memory
from distill.teachers.cache import fill_missing
from distill.training import make_trainer_for_inference


class FilledCache(NamedTuple):
    """The folder of a cache, the number of views of the run, and how many of them were already cached."""

    folder: Path
    views: int
    cached: int


def fill_cache(
    config: Config, *, trust: bool = False, progress: Callable[[int, int], None] | None = None
) -> FilledCache:
    """Compute the teacher's outputs for all training and validation views of a run, and store them on disk.

    Args:
        config: The configuration of the run, which the user wrote. Its ``teacher.cache`` must be ``disk``.
        trust: Whether the teacher's files may name any code to import.
        progress: Called with the number of finished views and the number of all views.

    Raises:
        InputError: if the run has no teacher, its cache is not on disk, or the disk is too small.
    """
    keep_freed_memory()
    folder = cache_folder(config)
    if folder is None:
        raise InputError(
            "teacher.cache: only a cache on disk can be filled before training. Set teacher.checkpoint and "
            "teacher.cache=disk."
        )
    run = build(config, trust=trust)
    module, cache = run.module, run.module.cache
    assert cache is not None
    assert module.teacher is not None
    trainer = make_trainer_for_inference(config)
    device = trainer.strategy.root_device
    assert module.validation_cache is not None
    validation = len(run.data.split("validation"))
    total, done = len(run.data.split("train")) * config.max_epochs + validation, 0
    splits = {"train": (cache, config.max_epochs), "validation": (module.validation_cache, 1)}
    with torch.no_grad(), trainer.precision_plugin.forward_context():
        for split, (target, epochs) in splits.items():
            for count in fill_missing(target, module.teacher, _views(run, split, epochs, device)):
                done += count
                if progress is not None:
                    progress(done, total)
    cached = cache.hits + module.validation_cache.hits
    return FilledCache(folder, total, cached)


def _views(
    run: BuiltRun, split: str, epochs: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    config, views = run.config, run.data.views
    loader = BatchLoader(
        run.data.split(split),
        batch_size=config.data.eval_batch_size,
        views=views if split == "train" else views.identity,
        data_seed=config.data.seed,
        workers=run.data.workers_for(split),
    )
    try:
        for epoch in range(epochs):
            loader.sampler.set_epoch(epoch)
            for batch in loader:
                images = views.apply(batch.images.to(device), batch.view.to(device))
                yield images, batch.labels.to(device), batch.index, batch.view
    finally:
        loader.close()
