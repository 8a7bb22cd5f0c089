"""Build the objective of a run, and the explainers and layers that its terms need."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from jaxtyping import Float, Int
from torch import Tensor, nn

from distill.build.teacher_classes import keeps_own_classes
from distill.build.terms import make_term
from distill.config import BUILT_IN_TERMS, Config, CustomTerm, ExplanationTerm, LayeredTerm, Term
from distill.data import AnyViews, ImageSet, Views
from distill.errors import InputError
from distill.explain import Explainer, PairExplainer
from distill.explain.explainer import ClassPolicy
from distill.losses import (
    ComparedLayer,
    CrossEntropy,
    Objective,
    TermSchedule,
    WeightedTerm,
    needs_of,
    registered_terms,
)
from distill.losses.failure import TermError
from distill.models import StagedNetwork
from distill.teachers import FrozenTeacher
from distill.teachers.frozen_maps import FrozenMaps
from distill.training import DistillationModule, Optimisation
from distill.training.module import Explainers
from distill.types import MapPair, Mix, StagedOutput

#: Keys of a term that describe how its maps are made; the other keys are options of its loss.
EXPLAINER_KEYS = (
    *("method", "teacher_layer", "layout", "teacher_layout", "target"),
    *("gradients", "statistics", "mixed", "frozen"),
)
#: Keys of every term that describe in which steps it is computed.
SCHEDULE_KEYS = ("every", "start_epoch", "ramp_epochs")


def build_module(
    config: Config,
    student: StagedNetwork,
    teacher: FrozenTeacher | None,
    *,
    data: ImageSet | None = None,
    views: AnyViews | None = None,
    terms: Mapping[str, nn.Module] | None = None,
    class_weights: Float[Tensor, " k"] | None = None,
) -> DistillationModule:
    """Build the Lightning module of a run.

    Args:
        config: The run.
        student: Network that is trained.
        teacher: Its teacher, if there is one.
        data: Training images; required if maps are frozen.
        views: Views of the training images; required if maps are frozen.
        terms: Ready-made terms by name. ``config.objective`` must have an entry for each, see
            :func:`distill.build.term_record`; it holds the weight, the schedule and the layers.
        class_weights: Weight of each class in the terms ``cross_entropy``.

    Raises:
        InputError: if a term needs a layer, a teacher or activations that are not available, or cannot be built.
    """
    active = {name: term for name, term in config.objective.items() if term.weight > 0}
    ready = dict(terms or {})
    if missing := [name for name in ready if name not in config.objective]:
        raise InputError(f"objective.{missing[0]}: a ready-made term needs an entry in the objective; see term_record.")
    modules = {n: copy.deepcopy(ready[n]) if n in ready else _make(n, term) for n, term in active.items()}
    if class_weights is not None:
        _weigh_classes(modules, class_weights)
    for name, term in active.items():
        _check_needs(name, term, modules[name], config, student, teacher)
    own = keeps_own_classes(config.teacher)
    explainers = {name: _pairs(name, term, needs_of(modules[name]).maps, own=own) for name, term in active.items()}
    explainers = {name: by_layer for name, by_layer in explainers.items() if by_layer}
    schedules = {name: TermSchedule(**term.model_dump(include=set(SCHEDULE_KEYS))) for name, term in active.items()}
    weighted = {name: WeightedTerm(term.weight, modules[name], _layers(term)) for name, term in active.items()}
    try:
        objective = Objective(weighted)
    except ValueError as error:
        raise InputError(f"objective: {error}") from error
    return DistillationModule(
        student,
        objective,
        Optimisation(config.optimizer, config.schedule),
        teacher=teacher,
        explainers=explainers,
        frozen=_frozen(active, explainers, data, views),
        schedules=schedules,
        compile=config.student.compile,
        monitor=config.monitor.metric,
        agreement=not own,
        skip_mixed=[name for name, term in active.items() if getattr(term, "mixed", "both") == "skip"],
    )


def try_terms(
    objective: Objective,
    student: StagedOutput,
    teacher: StagedOutput | None,
    maps: Mapping[str, Mapping[str, MapPair]],
    labels: Int[Tensor, " n"],
    mix: Mix | None = None,
) -> None:
    """Compute every term once, in evaluation mode, so that an error is reported before training.

    Raises:
        InputError: if a third-party term raises an exception or returns no scalar.
        ValueError, RuntimeError: if a built-in term fails.
    """
    training = objective.training
    objective.eval()
    try:
        for name in objective.names:
            term = objective.terms[name]
            try:
                objective.value(name, student, teacher, maps.get(name), labels, mix)
            except TermError as error:
                raise InputError(str(error)) from error
            except Exception as error:
                if isinstance(error, ValueError | RuntimeError) and type(term) in _BUILT_IN:
                    raise
                raise InputError(f"objective.{name}: {error}") from error
    finally:
        objective.train(training)


_BUILT_IN = tuple(registered_terms()[name] for name in BUILT_IN_TERMS)


def _weigh_classes(terms: Mapping[str, nn.Module], class_weights: Float[Tensor, " k"]) -> None:
    found = [term for term in terms.values() if isinstance(term, CrossEntropy)]
    if not found:
        raise InputError(
            "data.class_weights: the objective has no term cross_entropy, which they belong to. Remove the key, or add "
            "the term."
        )
    for term in found:
        term.weigh_classes(class_weights)


def _make(name: str, section: Term) -> nn.Module:
    if isinstance(section, CustomTerm):
        return make_term(name, section)
    options = section.model_dump(exclude={"term", "weight", *EXPLAINER_KEYS, *SCHEDULE_KEYS})
    return registered_terms()[section.term](**options)


def _check_needs(
    name: str,
    section: Term,
    module: nn.Module,
    config: Config,
    student: StagedNetwork,
    teacher: FrozenTeacher | None,
) -> None:
    """Check that teacher, layers and activations that a term needs are available."""
    needs = needs_of(module)
    if needs.teacher and teacher is None:
        raise InputError(f"objective.{name} needs a teacher: add teacher.checkpoint, or set its weight to 0")
    if needs.teacher and not needs.maps and not needs.activations and keeps_own_classes(config.teacher):
        raise InputError(
            f"objective.{name} compares the logits of student and teacher, but with teacher.classes=own their classes "
            "differ. Set its weight to 0, or name the teacher's class for each class of the data in teacher.classes."
        )
    if needs.activations and needs.teacher and config.teacher is not None and config.teacher.cache != "off":
        raise InputError(
            f"teacher.cache: objective.{name} needs the teacher's activations, which the cache does not store; set "
            "teacher.cache=off."
        )
    for layer, other in _layers(section).items():
        _check_layer(student, layer, "student")
        if needs.teacher and teacher is not None:
            _check_layer(teacher.network, other.teacher, "teacher")


def _layers(section: Term) -> dict[str, ComparedLayer]:
    if not isinstance(section, LayeredTerm):
        return {}
    return {
        layer: ComparedLayer(section.layer_of_teacher(layer), weight, section.layout, section.teacher_layout)
        for layer, weight in section.layers.items()
    }


def _frozen(
    active: Mapping[str, Term], explainers: Explainers, data: ImageSet | None, views: AnyViews | None
) -> dict[str, FrozenMaps]:
    names = [name for name, term in active.items() if isinstance(term, ExplanationTerm) and term.frozen]
    if names and (data is None or views is None):
        raise ValueError(f"frozen maps of {names} need the training images and their views.")
    if names and not isinstance(views, Views):
        raise InputError(
            f"objective.{names[0]}.frozen: maps of whole images cannot follow the transforms of data.augment; remove "
            "data.augment.transforms, which leaves crops and flips, or set frozen to false."
        )
    return {
        name: FrozenMaps(explainers[name], data, views)
        for name in names
        if data is not None and isinstance(views, Views)
    }


def _pairs(name: str, section: Term, method: str | None, *, own: bool) -> dict[str, PairExplainer]:
    """Return the explainers of the layers of a term that needs maps."""
    if method is None:
        return {}
    keys = section.model_dump(include={"method", "gradients", "statistics"})
    settings = {"method": method, **keys}
    policy: ClassPolicy = getattr(section, "target", "label")
    if own and policy == "teacher":
        raise InputError(
            f"objective.{name}.target: with teacher.classes=own the student has no class that the teacher predicts. "
            "Set the target to label or student; the teacher's map explains its own top class."
        )
    return {
        layer: PairExplainer(
            Explainer(layer=layer, layout=other.layout, **settings),
            Explainer(layer=other.teacher, layout=other.teacher_layout, **settings),
            policy,
            own,
        )
        for layer, other in _layers(section).items()
    }


def _check_layer(network: StagedNetwork, layer: str, role: str) -> None:
    try:
        network.check_layer(layer)
    except ValueError as error:
        raise InputError(f"{role}: {error}") from error
