"""What is looked at in every run of an ablation before the first begins, so that no night is lost to a slip."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from distill.ablation.file import AblationFile
from distill.config import Config, LayeredTerm
from distill.data import dataset_info
from distill.errors import InputError, unknown_name
from distill.explain import METHODS
from distill.metrics.names import METRIC_INFO, required_input
from distill.models import StagedNetwork, create_model

#: Keys of a run that the ablation sets.
OURS = ("name", "output_dir", "seed")
#: The figure that is not measured on a test set.
VALIDATION = "validation/accuracy"


def check_file(file: AblationFile, rows: Sequence[str], *, with_teacher: bool) -> Iterator[str]:
    """Name what does not fit in an ablation file by itself."""
    if not rows:
        yield "exclude: leaves no row at all"
    elif file.baseline not in rows:
        yield f"baseline: {unknown_name('row', file.baseline, rows)}"
    for name in sorted(row for row, count in Counter(rows).items() if count > 1):
        yield f"rows: there is more than one {name!r}"
    for metric in file.metrics:
        yield from _check_metric(metric, file, with_teacher=with_teacher)
    if file.maps.method not in METHODS:
        yield f"maps.method: {unknown_name('method', file.maps.method, METHODS)}"
    if "validation" in file.test_sets:
        yield f"test_sets: none can be called validation, which {VALIDATION} is of"


def check_run(config: Config, settings: Mapping[str, Any], file: AblationFile) -> Iterator[str]:
    """Name what the configuration cannot know: keys of data sets and networks, and layers."""
    yield from (f"{key}: the ablation sets this by itself" for key in settings if key in OURS)
    yield from check_data(config)
    options = _options_of_data().get(config.data.name)
    if options is None:
        return
    for name, changes in file.test_sets.items():
        for key in changes:
            if key not in options:
                yield f"test_sets.{name}.{unknown_name(f'option of data set {config.data.name}', key, options)}"
    yield from _check_student(config, file.maps.layer)


def check_teacher(config: Config) -> Iterator[str]:
    """Name what does not fit in the run of a teacher that is trained along."""
    yield from check_data(config)
    try:
        _network(config.student.name, json.dumps(config.student.options, sort_keys=True, default=str))
    except InputError as error:
        yield f"student: {error}"


def check_data(config: Config) -> Iterator[str]:
    """Name keys that the data set does not take."""
    known = _options_of_data()
    if config.data.name not in known:
        yield f"data.name: {unknown_name('data set', config.data.name, known)}"
        return
    for key in config.data.options:
        if key not in known[config.data.name]:
            yield f"data.{unknown_name(f'option of data set {config.data.name}', key, known[config.data.name])}"


def _check_metric(metric: str, file: AblationFile, *, with_teacher: bool) -> Iterator[str]:
    if metric == VALIDATION:
        return
    where, mark, figure = metric.rpartition("/")
    if not mark:
        yield f"metrics: {metric!r} should be SET/figure, such as {next(iter(file.test_sets))}/{metric}"
    elif where not in file.test_sets:
        yield f"metrics: {metric!r}: {unknown_name('test set', where, file.test_sets)}"
    elif figure not in METRIC_INFO:
        yield f"metrics: {metric!r}: {unknown_name('figure', figure, METRIC_INFO)}"
    elif not with_teacher and required_input(figure) == "reference":
        yield f"metrics: {metric!r} compares with a teacher, and no run has one"


def _check_student(config: Config, explained: str) -> Iterator[str]:
    section = config.student
    try:
        network = _network(section.name, json.dumps(section.options, sort_keys=True, default=str))
    except InputError as error:
        yield f"student: {error}"
        return
    if explained not in network.cuts:
        yield f"maps.layer: {unknown_name('layer', explained, network.cuts)}"
    terms = [t for t in config.objective.values() if isinstance(t, LayeredTerm) and t.weight > 0]
    for layer in dict.fromkeys(layer for term in terms for layer in term.layers):
        try:
            network.check_layer(layer)
        except ValueError as error:
            yield f"student: {error}"


@cache
def _network(name: str, options: str) -> StagedNetwork:
    return create_model(name, num_classes=2, **json.loads(options))


@cache
def _options_of_data() -> dict[str, tuple[str, ...]]:
    return {info.name: tuple(info.options) for info in dataset_info()}
