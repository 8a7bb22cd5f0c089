"""Build a run from its configuration, and check it before any file is written."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import Logger
from torch import nn

from distill.build.map_methods import resolve_methods
from distill.build.mixing import build_mixing
from distill.build.networks import build_student, build_teacher, data_name, teacher_hash
from distill.build.objective import build_module
from distill.build.open_sections import check_data_keys, check_keys, check_network_keys
from distill.build.student_weights import starting_weights_hash
from distill.build.teacher_cache import add_cache
from distill.build.terms import check_terms, resolve_terms
from distill.build.trial_step import check_step
from distill.build.trust import trust_in
from distill.config import AugmentSection, Config, DataSection, load, load_recorded
from distill.config import identity as identity_of
from distill.data import (
    AnyViews,
    ColourJitter,
    DistillDataModule,
    ImageSet,
    TransformedViews,
    Views,
    fingerprint,
    load_split,
    to_unit,
)
from distill.data.balanced import class_weights
from distill.data.class_counts import check_class_counts
from distill.data.own_data import is_callable_path
from distill.errors import InputError, unknown_name
from distill.objects import is_object, object_type
from distill.teachers import CacheSize
from distill.training import DistillationModule, check_trainer
from distill.untrusted import Trust

#: Arguments of the Trainer that distill sets; they are not allowed in the ``trainer`` section.
_RESERVED = ("logger", "callbacks", "use_distributed_sampler", "self", "enable_checkpointing")


def check_monitor(module: DistillationModule, metric: str) -> None:
    """Check that the monitored metric is one that the module logs."""
    if metric not in module.metric_names:
        raise InputError("monitor.metric: " + unknown_name("metric", metric, module.metric_names))


def check_selection(config: Config) -> None:
    """Check that the weights can be selected: a monitored metric of the validation needs a validation.

    Raises:
        InputError: if the ``trainer`` section leaves no validation.
    """
    if config.monitor.select != "best" or not config.monitor.metric.startswith("validation/"):
        return
    every = config.trainer.get("check_val_every_n_epoch")
    if config.trainer.get("limit_val_batches") == 0:
        key, value = "limit_val_batches", "0"
    elif isinstance(every, int) and every > config.max_epochs:
        key, value = "check_val_every_n_epoch", f"{every}, but there are {config.max_epochs} epochs"
    else:
        return
    raise InputError(
        f"monitor.select is best, which needs {config.monitor.metric}, but trainer.{key} is {value}, so it is never "
        f"measured. Change trainer.{key}, or set monitor.select=last."
    )


def check_trainer_keys(merged: Mapping[str, Any]) -> Iterable[str]:
    """Yield an error message for each key of the ``trainer`` section that is unknown to Lightning or reserved."""
    section = merged.get("trainer")
    valid = [name for name in inspect.signature(pl.Trainer.__init__).parameters if name not in _RESERVED]
    for key, value in section.items() if isinstance(section, Mapping) else ():
        if key in _RESERVED:
            yield f"trainer.{key}: this argument is set by distill; remove the key"
        elif key == "barebones" and value:
            yield "trainer.barebones: it turns off the checkpoints and logs that every run needs; remove the key"
        elif key not in valid:
            yield f"trainer.{key}: " + unknown_name("key", str(key), valid).partition(" (known")[0]


class BuiltRun(NamedTuple):
    """The parts of a training run; ``skipped`` counts the images of each split that cannot be decoded."""

    config: Config
    identity: str
    module: DistillationModule
    data: DistillDataModule
    cache: CacheSize | None = None
    skipped: Mapping[str, int] = MappingProxyType({})


def check_config(merged: Mapping[str, Any], *, import_terms: bool = True) -> Iterable[str]:
    """Yield the mistakes that can only be found with torch: in the keys of ``trainer`` and in third-party terms."""
    yield from check_trainer_keys(merged)
    yield from check_network_keys(merged)
    yield from check_terms(merged, import_classes=import_terms)


def load_config(paths: Iterable[Path | str], overrides: Iterable[str] = (), *, import_terms: bool = False) -> Config:
    """Load a configuration, and check its ``trainer`` section and its third-party terms.

    Args:
        paths: YAML files, merged left to right.
        overrides: ``key.path=value`` pairs, merged last.
        import_terms: Whether to import terms ``package.module:Class`` in order to check their options.
            :func:`build` imports the terms in any case.

    Raises:
        InputError: if there are mistakes; one line for each.
    """
    return load(list(paths), list(overrides), check=partial(check_config, import_terms=import_terms))


def load_recorded_config(path: Path | str) -> Config:
    """Load the configuration that was found in a run directory: nothing is imported, resolved or extended.

    Raises:
        InputError: if it cannot be read or has mistakes; one line for each.
    """
    return load_recorded(path, check=partial(check_config, import_terms=False))


class Objects(NamedTuple):
    """Python objects of a run, in place of names in the configuration.

    Args:
        student: The student; a copy of it is trained.
        teacher: The teacher.
        train: The training images.
        validation: The validation images.
        terms: Terms of the objective, by name.
        callbacks: Lightning callbacks, in addition to those of every run.
        loggers: Lightning loggers, in addition to metrics.csv and the configured loggers.
    """

    student: nn.Module | None = None
    teacher: nn.Module | None = None
    train: ImageSet | None = None
    validation: ImageSet | None = None
    terms: Mapping[str, nn.Module] = MappingProxyType({})
    callbacks: tuple[Callback, ...] = ()
    loggers: tuple[Logger, ...] = ()


def build(
    config: Config, objects: Objects | None = None, *, trust: Trust | bool = False, resumed: bool = False
) -> BuiltRun:
    """Build a run, and run one small batch through all parts as a check.

    Args:
        config: The configuration of the run, which the user wrote: the names in it are imported.
        objects: The objects for the names in the configuration that begin with ``object:``.
        trust: Names that the files of the teacher may import, in addition to those in the configuration.
        resumed: Whether the run goes on from a checkpoint, so that the student's starting weights are not needed.

    Raises:
        InputError: if a part cannot be loaded or does not fit the others (classes, channels, layers, checkpoint,
            image folder), or the data have fewer than two classes or an empty split.
    """
    objects = objects or Objects()
    config = resolve_methods(resolve_terms(config, ready=objects.terms), objects, trust=trust)
    views, mixing = build_views(config.data), build_mixing(config)
    if is_object(config.data.name):
        check_keys("data", config.data, ("size", "validation"), of="a data set that is passed as an object")
    trusted = trust_in(config, also=trust)
    train, validation = (
        load_images(config.data, split, trust=trusted) if images is None else images
        for split, images in (("train", objects.train), ("validation", objects.validation))
    )
    for split, images in (("train", train), ("validation", validation)):
        check_class_counts(images, split=split, name=data_name(config))
    teacher = build_teacher(config, train, objects.teacher, trust=trust)
    pl.seed_everything(config.seed, verbose=False)
    student = build_student(config, train, objects.student, resumed=resumed)
    setting = config.data.class_weights
    module = build_module(
        config,
        student,
        teacher,
        data=train,
        views=views,
        terms=objects.terms,
        class_weights=None if setting is None else class_weights(setting, train),
    )
    data = DistillDataModule(
        train,
        validation,
        batch_size=config.data.batch_size,
        eval_batch_size=config.data.eval_batch_size,
        views=views,
        seed=config.seed,
        data_seed=config.data.seed,
        workers=config.data.workers,
        jitter=_jitter(config.data),
        mixing=mixing,
        balanced=config.data.sampler == "balanced",
    )
    module.optimisation.check(module)
    check_monitor(module, config.monitor.metric)
    check_selection(config)
    check_trainer(config)
    data.train_dataloader()  # raises an error if the batch is larger than the data set
    batch = data.trial_batch()
    check_step(module, batch, len(train.classes))
    if batch.images.shape[1:] != train.images.shape[1:]:  # transforms change the size, and validation does not
        check_step(module, batch._replace(images=to_unit(train.images[:2]), mix=None), len(train.classes))
    cache = add_cache(config, module, train, validation, views, batch)
    skipped = {name: len(one.skipped) for name, one in (("train", train), ("validation", validation)) if one.skipped}
    return BuiltRun(config, run_identity(config), module, data, cache, skipped)


def run_identity(config: Config) -> str:
    """Return a hash of the configuration, the weights of teacher and student, and the files of an image folder.

    Args:
        config: The configuration; :func:`distill.build.resolve_methods` has replaced ``method: auto``.
    """
    teacher = config.teacher
    return identity_of(
        config,
        teacher_hash=teacher_hash(teacher) if teacher else None,
        data_hash=fingerprint(config.data.name, config.data.options),
        weights_hash=starting_weights_hash(config),
    )


def build_views(section: DataSection) -> AnyViews:
    """Return the views (augmentations) of a ``data`` section.

    Raises:
        InputError: if a transform or one of its arguments is wrong.
    """
    augment = section.augment
    if isinstance(augment, AugmentSection):
        return Views(augment.pad, augment.flip, augment.padding, augment.views)
    return TransformedViews(augment.transforms, limit=augment.views, objects=augment.objects)


def _jitter(section: DataSection) -> ColourJitter | None:
    jitter = section.augment.colour_jitter if isinstance(section.augment, AugmentSection) else None
    return ColourJitter(**jitter.model_dump()) if jitter else None


def load_images(
    section: DataSection, split: str, *, trust: Trust | bool = False, source: Path | str = "data.name", **changes: Any
) -> ImageSet:
    """Load a split of the data set of a section.

    Args:
        section: The ``data`` section.
        split: ``train``, ``validation`` or ``test``.
        trust: Names ``package.module:callable`` that may be imported, or whether any may be.
        source: Where the section is from, for the message about a name that is not trusted.
        changes: Options that replace those of the section.

    Raises:
        InputError: if the data set does not exist, was passed as an object, names code to import that is not trusted,
            or an option is wrong.
    """
    if is_object(section.name):
        raise InputError(
            f"data: the data set was passed as a Python object ({object_type(section.name)}), which cannot be rebuilt "
            "from a run directory. Pass it again in Python, as in `distill.evaluate(run, data=dataset)`."
        )
    if is_callable_path(section.name):
        trusted = Trust(everything=trust) if isinstance(trust, bool) else trust
        trusted.check(section.name, source, f"`--data {section.name}`")
    check_data_keys(section, section.name)
    return load_split(section.name, split, **{"seed": section.seed, **section.options, **changes})
