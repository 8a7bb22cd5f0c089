"""Preflight checks of the configuration: errors in an ablation file and its runs, found without loading images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from distill.ablation.file import AblationFile
from distill.config import Config, LayeredTerm
from distill.config.names import has_control_characters
from distill.data import dataset_info
from distill.data.own_data import is_callable_path
from distill.errors import InputError, unknown_name
from distill.explain import METHODS
from distill.metrics.names import METRIC_INFO, required_input
from distill.models import StagedNetwork, create_model

#: Keys of a run that the ablation sets itself.
RESERVED_KEYS = ("name", "output_dir", "seed")
#: The only metric that does not belong to a test set.
VALIDATION = "validation/accuracy"


def check_file(file: AblationFile, rows: Sequence[str], *, with_teacher: bool) -> Iterator[str]:
    """Yield the errors of an ablation file that do not depend on a run's configuration.

    Args:
        file: The ablation file.
        rows: Names of its rows.
        with_teacher: Whether any run has a teacher.
    """
    if not rows:
        yield "exclude: all rows are excluded; remove a rule"
    elif file.baseline not in rows:
        yield f"baseline: {unknown_name('row', file.baseline, rows)}"
    for name in sorted(row for row, count in Counter(rows).items() if count > 1):
        yield f"rows: {name!r} occurs more than once; give each row its own name"
    for name in (name for name in (*rows, *file.test_sets) if has_control_characters(name)):
        yield f"rows, axes, test_sets: {name!r} contains a control character or a line break; remove it"
    for metric in file.metrics:
        yield from _check_metric(metric, file, with_teacher=with_teacher)
    if file.maps.method not in METHODS:
        yield f"maps.method: {unknown_name('method', file.maps.method, METHODS)}"
    if "validation" in file.test_sets:
        yield f"test_sets: 'validation' is reserved for the metric {VALIDATION}; choose another name"


def check_run(config: Config, settings: Mapping[str, Any], file: AblationFile) -> Iterator[str]:
    """Yield the errors of a run: reserved keys, unknown options of the data set or the network, and unknown layers."""
    yield from (f"{key}: the ablation sets this key; remove it" for key in settings if key in RESERVED_KEYS)
    yield from check_data(config)
    own = is_callable_path(config.data.name)  # its options are checked when it is imported
    options = _data_set_options().get(config.data.name)
    if options is None and not own:
        return
    for name, changes in file.test_sets.items():
        for key in changes:
            if options is not None and key not in options:
                yield f"test_sets.{name}.{unknown_name(f'option of data set {config.data.name}', key, options)}"
    yield from _check_student(config, file.maps.layer)


def check_teacher(config: Config) -> Iterator[str]:
    """Yield the errors of the run of a teacher that the ablation trains."""
    yield from check_data(config)
    try:
        _network(config.student.name, json.dumps(config.student.options, sort_keys=True, default=str))
    except InputError as error:
        yield f"student: {error}"


def check_data(config: Config) -> Iterator[str]:
    """Yield the options that the data set does not have."""
    data_sets = _data_set_options()
    if is_callable_path(config.data.name):
        return
    if config.data.name not in data_sets:
        yield f"data.name: {unknown_name('data set', config.data.name, data_sets)}"
        return
    options = data_sets[config.data.name]
    for key in config.data.options:
        if key not in options:
            yield f"data.{unknown_name(f'option of data set {config.data.name}', key, options)}"


def _check_metric(metric: str, file: AblationFile, *, with_teacher: bool) -> Iterator[str]:
    if metric == VALIDATION:
        return
    test_set, slash, name = metric.rpartition("/")
    if not slash:
        yield f"metrics: expected SET/METRIC, such as {next(iter(file.test_sets))}/{metric}, got {metric!r}"
    elif test_set not in file.test_sets:
        yield f"metrics: {metric!r}: {unknown_name('test set', test_set, file.test_sets)}"
    elif name not in METRIC_INFO:
        yield f"metrics: {metric!r}: {unknown_name('metric', name, METRIC_INFO)}"
    elif not with_teacher and required_input(name) == "reference":
        yield f"metrics: {metric!r} compares with a teacher, but no run has a teacher"


def _check_student(config: Config, map_layer: str) -> Iterator[str]:
    section = config.student
    try:
        network = _network(section.name, json.dumps(section.options, sort_keys=True, default=str))
    except InputError as error:
        yield f"student: {error}"
        return
    if map_layer not in network.cuts:
        yield f"maps.layer: {unknown_name('layer', map_layer, network.cuts)}"
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
def _data_set_options() -> dict[str, tuple[str, ...]]:
    return {info.name: tuple(info.options) for info in dataset_info()}
