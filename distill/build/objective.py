"""The objective of a run, with what its terms need."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from distill.config import (
    AnyTerm,
    AttentionTransferTerm,
    Config,
    ExplanationTerm,
    LayeredTerm,
)
from distill.data import ImageSet, Views
from distill.errors import InputError
from distill.explain import Explainer, PairExplainer
from distill.losses import (
    TERMS,
    Objective,
    TermSchedule,
    WeightedTerm,
)
from distill.models import StagedNetwork
from distill.teachers import FrozenTeacher
from distill.teachers.frozen_maps import FrozenMaps
from distill.training import DistillationModule, Optimisation
from distill.training.module import Explainers

#: Keys of a term that say how maps are made; the others belong to its loss.
EXPLAINER_KEYS = ("method", "teacher_layer", "target", "gradients", "statistics", "frozen")
#: Keys of every term that say when it counts.
SCHEDULE_KEYS = ("every", "start_epoch", "ramp_epochs")


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
    explainers = {name: _pairs(term) for name, term in active.items() if isinstance(term, LayeredTerm)}
    for pair in (pair for by_layer in explainers.values() for pair in by_layer.values()):
        _check_layer(student, pair.student.layer, "student")
        if teacher is not None:
            _check_layer(teacher.network, pair.teacher.layer, "teacher")
    schedules = {name: TermSchedule(**term.model_dump(include=set(SCHEDULE_KEYS))) for name, term in active.items()}
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
        compile=config.student.compile,
    )


def _frozen(
    active: Mapping[str, AnyTerm], explainers: Explainers, data: ImageSet | None, views: Views | None
) -> dict[str, FrozenMaps]:
    names = [name for name, term in active.items() if isinstance(term, ExplanationTerm) and term.frozen]
    if names and (data is None or views is None):
        raise ValueError(f"frozen maps of {names} need the training images and their views.")
    return {name: FrozenMaps(explainers[name], data, views) for name in names if data is not None and views is not None}


def _term(section: AnyTerm) -> torch.nn.Module:
    settings = section.model_dump(exclude={"term", "weight", *EXPLAINER_KEYS, *SCHEDULE_KEYS})
    return TERMS[section.term](**settings)


def _pairs(section: LayeredTerm) -> dict[str, PairExplainer]:
    policy = section.target if isinstance(section, ExplanationTerm) else "label"
    return {
        layer: PairExplainer(_explainer(section, layer), _explainer(section, section.layer_of_teacher(layer)), policy)
        for layer in section.layers
    }


def _explainer(section: LayeredTerm, layer: str) -> Explainer:
    if isinstance(section, ExplanationTerm):
        return Explainer(section.method, layer, gradients=section.gradients, statistics=section.statistics)
    if isinstance(section, AttentionTransferTerm):
        return Explainer("activation_attention", layer)
    raise TypeError(f"nobody said how the maps of a {type(section).__name__} are made.")


def _check_layer(network: StagedNetwork, layer: str, role: str) -> None:
    try:
        network.check_layer(layer)
    except ValueError as error:
        raise InputError(f"{role}: {error}") from error
