"""A teacher's cache filled ahead of the runs that will use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from distill.build import Run, build, cache_folder
from distill.config import Config
from distill.data import BatchLoader
from distill.errors import InputError
from distill.training import make_trainer_for_inference
from distill.training.teacher_cache import fill


class Filled(NamedTuple):
    """Where a cache lies, the views it was asked for, and how many of them it had before."""

    folder: Path
    views: int
    known: int


def fill_cache(config: Config, *, progress: Callable[[int, int], None] | None = None) -> Filled:
    """Compute what a teacher says of every view that a run will meet, and keep it on disk.

    Args:
        config: The run; its ``teacher.cache`` must be ``disk``.
        progress: Called with the views that are done and their number.

    Raises:
        InputError: if there is no teacher, the cache is not on disk, or there is no room for it.
    """
    folder = cache_folder(config)
    if folder is None:
        raise InputError("only a cache on disk can be filled ahead: give a teacher, and teacher.cache=disk.")
    run = build(config)
    module, cache = run.module, run.module.cache
    assert cache is not None
    assert module.teacher is not None
    trainer = make_trainer_for_inference(config)
    device = trainer.strategy.root_device
    images = len(run.data.split("train"))
    total, done = images * config.max_epochs, 0
    with torch.no_grad(), trainer.precision_plugin.forward_context():
        for count in fill(cache, module.teacher, _views(run, device)):
            done += count
            if progress is not None:
                progress(done, total)
    return Filled(folder, cache.looked_up, cache.hits)


def _views(run: Run, device: torch.device) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    config, data = run.config, run.data.split("train")
    loader = BatchLoader(
        data,
        batch_size=config.data.eval_batch_size,
        views=run.data.views,
        data_seed=config.data.seed,
        workers=run.data.workers_for("train"),
    )
    try:
        for epoch in range(config.max_epochs):
            loader.sampler.set_epoch(epoch)
            for batch in loader:
                images = run.data.views.apply(batch.images.to(device), batch.view.to(device))
                yield images, batch.labels.to(device), batch.index, batch.view
    finally:
        loader.close()
