"""Preflight checks with images and networks: find errors before training that would stop the evaluation after it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from distill.ablation.plan import Ablation, Trial
from distill.ablation.trial import STUDENT, TEACHER
from distill.build import build_student, load_images, load_teacher
from distill.build.teacher_classes import keeps_own_classes, select_teacher_classes
from distill.config import Config, LayeredTerm, format_mistakes
from distill.data import ImageSet
from distill.errors import InputError
from distill.evaluation import ComparedNetworks, MapSettings
from distill.metrics.names import required_input
from distill.models import StagedNetwork


def run_preflight(ablation: Ablation, trials: Sequence[Trial]) -> None:
    """Load each test set, and prepare the evaluation of each trial with untrained networks.

    Args:
        ablation: The ablation.
        trials: The trials to check; each combination of data set and networks is checked once.

    Raises:
        InputError: with all errors, one per line.
    """
    sets: dict[str, dict[str, ImageSet]] = {}
    checked: set[str] = set()
    errors: dict[str, None] = {}
    for trial in trials:
        config = trial.config
        data, evaluation = _key(config.data), _key(config.data, config.student, config.teacher, config.objective)
        if data not in sets:
            sets[data], problems = _load_test_sets(ablation, config)
            errors |= dict.fromkeys(problems)
        if evaluation not in checked and sets[data]:
            checked.add(evaluation)
            errors |= dict.fromkeys(_check_evaluation(ablation, config, sets[data]))
    if errors:
        raise InputError(format_mistakes(list(errors), ablation.file.name))


def _key(*sections: object) -> str:
    return json.dumps([section if section is None else _plain(section) for section in sections], sort_keys=True)


def _plain(section: object) -> object:
    if isinstance(section, Mapping):
        return {name: _plain(part) for name, part in section.items()}
    return section.model_dump(mode="json")  # type: ignore[attr-defined]


def _load_test_sets(ablation: Ablation, config: Config) -> tuple[dict[str, ImageSet], list[str]]:
    sets: dict[str, ImageSet] = {}
    problems: list[str] = []
    for name, changes in ablation.file.test_sets.items():
        try:
            data = load_images(config.data, "test", trust=ablation.trusted, **changes)
        except InputError as error:
            problems.append(f"test_sets.{name}: {error}")
            continue
        sets[name] = data
        if data.masks is None and data.boxes is None:
            metrics = [metric for metric in ablation.file.metrics if metric.rpartition("/")[0] == name]
            problems += [
                f"metrics: {metric!r} needs boxes or masks, but data set {config.data.name} has none"
                for metric in metrics
                if required_input(metric.rpartition("/")[2]) == "objects"
            ]
    return sets, problems


def _check_evaluation(ablation: Ablation, config: Config, sets: Mapping[str, ImageSet]) -> Iterator[str]:
    first = _first_images(next(iter(sets.values())))
    networks: dict[str, StagedNetwork] = {STUDENT: build_student(config, first)}
    try:
        if (teacher := _teacher(ablation, config, first)) is not None:
            yield from _check_teacher_layers(config, teacher)
            if not keeps_own_classes(config.teacher):
                networks[TEACHER] = teacher
        maps = MapSettings(**ablation.file.maps.model_dump())
        compared = ComparedNetworks(networks, TEACHER if TEACHER in networks else None, maps)
        for name, data in sets.items():
            compared.check(name, data)
    except InputError as error:
        yield str(error)


def _teacher(ablation: Ablation, config: Config, data: ImageSet) -> StagedNetwork | None:
    """Return the teacher, or an untrained network of the same architecture if the ablation trains the teacher."""
    if config.teacher is None:
        return None
    if ablation.teacher is not None and config.teacher.checkpoint == str(ablation.teacher.directory):
        images = _first_images(load_images(ablation.teacher.data, "validation", trust=ablation.trusted))
        return select_teacher_classes(build_student(ablation.teacher, images), config.teacher, data.classes)
    return load_teacher(config.teacher, data, trust=ablation.trusted)


def _first_images(data: ImageSet) -> ImageSet:
    """Return the first two images, from which the number of channels and the image size are read."""
    return data.subset(list(range(min(len(data), 2))))


def _check_teacher_layers(config: Config, teacher: StagedNetwork) -> Iterator[str]:
    for name, term in config.objective.items():
        if not isinstance(term, LayeredTerm) or not term.weight or not term.needs_teacher:
            continue
        for layer in term.layers:
            try:
                teacher.check_layer(term.layer_of_teacher(layer))
            except ValueError as error:
                yield f"objective.{name}: layer of the teacher: {error}"
