"""Configuration -> objects: the only room that sees both sides."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch

from distill.config import AnyTerm, Config, DataSection, ExplanationTerm, load
from distill.config import identity as identity_of
from distill.data import DistillDataModule, ImageSet, Views, channel_statistics, load_split
from distill.errors import InputError, unknown
from distill.explain import Explainer, PairExplainer
from distill.losses import TERMS, Objective, TermSchedule, WeightedTerm
from distill.models import StagedNetwork, create_model, file_hash, load_network
from distill.training import DistillationModule, FrozenTeacher, Optimisation, check_trainer
from distill.training.explaining import Explainers, explain
from distill.training.frozen_maps import FrozenMaps
from distill.types import Batch

#: What the Trainer takes and a run decides by itself.
_OURS = ("logger", "callbacks", "use_distributed_sampler", "self", "enable_checkpointing")
#: Keys of a term that say how maps are made; the others belong to its loss.
_EXPLAINER_KEYS = ("method", "teacher_layer", "target", "gradients", "statistics", "frozen")
#: Keys of every term that say when it counts.
_SCHEDULE_KEYS = ("every", "start_epoch", "ramp_epochs")


class Run(NamedTuple):
    """Everything that one training run consists of."""

    config: Config
    identity: str
    module: DistillationModule
    data: DistillDataModule


def load_config(paths: Iterable[Path | str], overrides: Iterable[str] = ()) -> Config:
    """Read a configuration and check the names in its ``trainer`` section along with the rest."""
    return load(list(paths), list(overrides), check=_check_trainer)


def build(config: Config) -> Run:
    """Build a run, and try one batch of it through every part.

    Raises:
        InputError: if parts do not fit: classes, channels, layers, a checkpoint, a folder of images.
    """
    train, validation = load_images(config.data, "train"), load_images(config.data, "validation")
    teacher = build_teacher(config, train)
    pl.seed_everything(config.seed, verbose=False)
    student = build_student(config, train)
    views = Views(**config.data.augment.model_dump())
    module = build_module(config, student, teacher, data=train, views=views)
    data = DistillDataModule(
        train,
        validation,
        batch_size=config.data.batch_size,
        eval_batch_size=config.data.eval_batch_size,
        views=views,
        seed=config.seed,
        data_seed=config.data.seed,
    )
    _check_monitor(module, config.monitor.metric)
    check_trainer(config)
    data.train_dataloader()  # refuses a batch that is larger than the set
    data.views.apply(train.images[:2], data.views.draw(2, seed=0, epoch=0))
    _try(module, train)
    return Run(config, run_identity(config), module, data)


def run_identity(config: Config) -> str:
    """Hash what a run computes, the teacher's weights included."""
    teacher = config.teacher
    return identity_of(config, teacher_hash=file_hash(_existing(teacher.checkpoint)) if teacher else None)


def load_images(section: DataSection, split: str, **changes: Any) -> ImageSet:
    """Load a split of the data set that a section names, with some of its options changed."""
    return load_split(section.name, split, **{"seed": section.seed, **section.options, **changes})


def build_student(config: Config, train: ImageSet) -> StagedNetwork:
    """Build a student for a data set, with its input scaling."""
    scaling = config.student.normalisation
    mean, std = (scaling.mean, scaling.std) if scaling else channel_statistics(train.images)
    return create_model(
        config.student.name,
        num_classes=len(train.classes),
        in_channels=train.images.shape[1],
        mean=mean,
        std=std,
        classes=train.classes,
        **config.student.options,
    ).to(memory_format=torch.channels_last)


def build_teacher(config: Config, train: ImageSet) -> FrozenTeacher | None:
    """Load the teacher, and see that it is one for this data set."""
    section = config.teacher
    if section is None:
        return None
    channels = train.images.shape[1]
    network = load_network(
        section.checkpoint,
        name=section.name,
        num_classes=len(train.classes),
        in_channels=channels,
        normalisation=section.normalisation.model_dump() if section.normalisation else None,
        options=section.options,
    )
    if network.spec.num_classes != len(train.classes):
        raise InputError(
            f"the teacher has {network.spec.num_classes} classes, but {config.data.name} has {len(train.classes)}; "
            "teacher and student must tell the same classes apart."
        )
    if network.spec.in_channels != channels:
        raise InputError(
            f"the teacher takes {network.spec.in_channels} channels, but {config.data.name} has {channels}."
        )
    _keep_validation_unseen(config, Path(section.checkpoint))
    return FrozenTeacher(network)


def build_module(
    config: Config,
    student: StagedNetwork,
    teacher: FrozenTeacher | None,
    *,
    data: ImageSet | None = None,
    views: Views | None = None,
) -> DistillationModule:
    """Put student, teacher and objective together; data and views are needed where maps are frozen."""
    active = {name: term for name, term in config.objective.items() if term.weight > 0}
    explainers = {name: _pairs(term) for name, term in active.items() if isinstance(term, ExplanationTerm)}
    for pair in (pair for by_layer in explainers.values() for pair in by_layer.values()):
        _check_layer(student, pair.student.layer, "student")
        if teacher is not None:
            _check_layer(teacher.network, pair.teacher.layer, "teacher")
    schedules = {name: TermSchedule(**term.model_dump(include=set(_SCHEDULE_KEYS))) for name, term in active.items()}
    objective = Objective({name: WeightedTerm(term.weight, _term(term)) for name, term in active.items()})
    optimisation = Optimisation(config.optimizer, config.schedule)
    return DistillationModule(
        student,
        objective,
        optimisation,
        teacher=teacher,
        explainers=explainers,
        frozen=_frozen(active, explainers, data, views),
        schedules=schedules,
    )


def _frozen(
    active: Mapping[str, AnyTerm], explainers: Explainers, data: ImageSet | None, views: Views | None
) -> dict[str, FrozenMaps]:
    names = [name for name, term in active.items() if isinstance(term, ExplanationTerm) and term.frozen]
    if names and (data is None or views is None):
        raise ValueError(f"frozen maps of {names} need the training images and their views.")
    return {name: FrozenMaps(explainers[name], data, views) for name in names if data is not None and views is not None}


def _term(section: AnyTerm) -> torch.nn.Module:
    settings = section.model_dump(exclude={"term", "weight", *_EXPLAINER_KEYS, *_SCHEDULE_KEYS})
    return TERMS[section.term](**settings)


def _pairs(section: ExplanationTerm) -> dict[str, PairExplainer]:
    def explainer(layer: str) -> Explainer:
        return Explainer(section.method, layer, gradients=section.gradients, statistics=section.statistics)

    return {
        layer: PairExplainer(explainer(layer), explainer(section.layer_of_teacher(layer)), section.target)
        for layer in section.layers
    }


def _check_layer(network: StagedNetwork, layer: str, role: str) -> None:
    try:
        network.check_layer(layer)
    except ValueError as error:
        raise InputError(f"{role}: {error}") from error


def _check_monitor(module: DistillationModule, metric: str) -> None:
    if metric not in module.metric_names:
        raise InputError("monitor.metric: " + unknown("metric", metric, module.metric_names))


def _try(module: DistillationModule, train: ImageSet) -> None:
    """Send two images through the whole step, so that what does not fit is told before training starts."""
    images = train.images[:2].float() / 255
    mode = module.student.training
    module.student.eval()
    try:
        with torch.no_grad():
            student, teacher = module.run(images, module.explainers, taught=True)
            batch = Batch(images, train.labels[:2], torch.arange(2), torch.zeros(2, dtype=torch.int64))
            live = {} if module.teacher is None else module.explainers
            maps = explain(live, student, teacher, batch)
            module.objective(student, teacher, maps, train.labels[:2])
    except (ValueError, RuntimeError) as error:
        raise InputError(f"the parts do not fit together on images of {tuple(images.shape[1:])}: {error}") from error
    finally:
        module.student.train(mode)


def _keep_validation_unseen(config: Config, teacher: Path) -> None:
    """Refuse a teacher that was trained on what this run would validate with."""
    recorded = teacher / "config.yaml"
    if config.data.name == "fashion_scenes" or not recorded.exists():
        return  # splits of the scenes are made of disjoint items, whatever the seed
    theirs = load([recorded]).data
    if theirs.name == config.data.name and (theirs.seed, theirs.options) != (config.data.seed, config.data.options):
        raise InputError(
            f"the teacher {teacher} was trained on another split of {theirs.name} "
            f"(data.seed {theirs.seed}, {theirs.options}; here {config.data.seed}, {config.data.options}): it may have "
            "seen the validation images. Give both runs the same data section."
        )


def _existing(checkpoint: str) -> str:
    if not Path(checkpoint).exists():
        raise InputError(
            f"teacher.checkpoint: there is nothing at {checkpoint}; train a teacher first, or mend the path."
        )
    return checkpoint


def _check_trainer(merged: Mapping[str, Any]) -> Iterable[str]:
    section = merged.get("trainer")
    known = [name for name in inspect.signature(pl.Trainer.__init__).parameters if name not in _OURS]
    for key in section if isinstance(section, Mapping) else ():
        if key in _OURS:
            yield f"trainer.{key}: a run decides this by itself"
        elif key not in known:
            yield f"trainer.{key}: " + unknown("key", str(key), known).partition(" (known")[0]
