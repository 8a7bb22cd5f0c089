"""`cache`: fill a teacher's cache before the runs that use it."""

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
    """Where a cache lies, the views it was asked for, and how many of them it had before."""

    folder: Path
    views: int
    cached: int


def fill_cache(config: Config, *, progress: Callable[[int, int], None] | None = None) -> FilledCache:
    """Compute what a teacher says of every view that a run will meet, in validation too, and keep it on disk.

    Args:
        config: The run; its ``teacher.cache`` must be ``disk``.
        progress: Called with the views that are done and their number.

    Raises:
        InputError: if there is no teacher, the cache is not on disk, or there is no room for it.
    """
    keep_freed_memory()
    folder = cache_folder(config)
    if folder is None:
        raise InputError("only a cache on disk can be filled ahead: give a teacher, and teacher.cache=disk.")
    run = build(config)
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
        for split, (into, epochs) in splits.items():
            for count in fill_missing(into, module.teacher, _views(run, split, epochs, device)):
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
