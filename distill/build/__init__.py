"""Configuration -> objects: the only room that sees both sides."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl

from distill.build.caching import add_cache, cache_folder
from distill.build.checks import check_monitor, check_trainer_keys, try_step
from distill.build.looks import known_looks
from distill.build.networks import build_student, build_teacher, load_teacher
from distill.build.terms import build_module
from distill.cache import Need
from distill.config import Config, DataSection, load
from distill.config import identity as identity_of
from distill.data import ColourJitter, DistillDataModule, ImageSet, Views, fingerprint, load_split
from distill.errors import InputError
from distill.models import file_hash
from distill.training import DistillationModule, check_trainer

__all__ = [
    "Run",
    "add_cache",
    "build",
    "build_module",
    "build_student",
    "build_teacher",
    "build_views",
    "cache_folder",
    "check_trainer_keys",
    "known_looks",
    "load_config",
    "load_images",
    "load_teacher",
    "run_identity",
]


class Run(NamedTuple):
    """Everything that one training run consists of."""

    config: Config
    identity: str
    module: DistillationModule
    data: DistillDataModule
    cache: Need | None = None


def load_config(paths: Iterable[Path | str], overrides: Iterable[str] = ()) -> Config:
    """Read a configuration and check the names in its ``trainer`` section along with the rest."""
    return load(list(paths), list(overrides), check=check_trainer_keys)


def build(config: Config) -> Run:
    """Build a run, and try one batch of it through every part.

    Raises:
        InputError: if parts do not fit: classes, channels, layers, a checkpoint, a folder of images.
    """
    train, validation = load_images(config.data, "train"), load_images(config.data, "validation")
    teacher = build_teacher(config, train)
    pl.seed_everything(config.seed, verbose=False)
    student = build_student(config, train)
    views = build_views(config.data)
    jitter = config.data.augment.colour_jitter
    module = build_module(config, student, teacher, data=train, views=views)
    data = DistillDataModule(
        train,
        validation,
        batch_size=config.data.batch_size,
        eval_batch_size=config.data.eval_batch_size,
        views=views,
        seed=config.seed,
        data_seed=config.data.seed,
        workers=config.data.workers,
        jitter=ColourJitter(**jitter.model_dump()) if jitter else None,
    )
    check_monitor(module, config.monitor.metric)
    check_trainer(config)
    data.train_dataloader()  # refuses a batch that is larger than the set
    data.views.apply(train.images[:2], data.views.draw(2, seed=0, epoch=0))
    try_step(module, train)
    cache = add_cache(config, module, train, validation, views)
    return Run(config, run_identity(config), module, data, cache)


def run_identity(config: Config) -> str:
    """Hash what a run computes, the teacher's weights and a folder of images included."""
    teacher = config.teacher
    return identity_of(
        config,
        teacher_hash=file_hash(_existing(teacher.checkpoint)) if teacher else None,
        data_hash=fingerprint(config.data.name, config.data.options),
    )


def build_views(section: DataSection) -> Views:
    """Make the views that training sees of an image."""
    augment = section.augment
    return Views(augment.pad, augment.flip, augment.padding, augment.views)


def load_images(section: DataSection, split: str, **changes: Any) -> ImageSet:
    """Load a split of the data set that a section names, with some of its options changed."""
    return load_split(section.name, split, **{"seed": section.seed, **section.options, **changes})


def _existing(checkpoint: str) -> str:
    if not Path(checkpoint).exists():
        raise InputError(
            f"teacher.checkpoint: there is nothing at {checkpoint}; train a teacher first, or mend the path."
        )
    return checkpoint
