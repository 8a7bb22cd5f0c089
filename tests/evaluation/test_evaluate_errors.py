"""Input that an evaluation refuses: networks, sets, and settings."""

from __future__ import annotations

from typing import Any

import pytest

from distill.errors import InputError
from distill.evaluation import ONE_PASS, EvaluationSettings, MapSettings, evaluate
from distill.models import StagedNetwork
from tests.evaluation.checks import CLASSES, image_set, network, record_of


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ({}, "`networks` is empty; give at least one network"),
        (
            {
                "teacher": network(1),
                "b": network(2, classes=("bag", "boot", "cat")),
                "c": network(2, classes=(), num_classes=4),
            },
            "networks 'teacher' and 'b' have different classes .*: class 2 is 'coat' and 'cat'.\n"
            "networks 'teacher' and 'c' have different classes .*: 3 and 4",
        ),
        ({"student": network(1)}, "unknown reference 'teacher'"),
    ],
)
def test_networks_that_cannot_be_compared_are_refused(networks: dict[str, StagedNetwork], message: str) -> None:
    with pytest.raises(InputError, match=message):
        record_of(networks, image_set())


def test_a_network_without_names_of_classes_goes_with_one_that_has_them() -> None:
    nets = {"foreign": network(1, classes=()), "own": network(2)}
    assert record_of(nets, image_set(), reference="foreign")["classes"] == list(CLASSES)


def test_sets_of_other_classes_are_refused(pair: dict[str, StagedNetwork]) -> None:
    with pytest.raises(InputError, match="test set 'plain' has other classes than network 'teacher': class 0 is 'cat'"):
        record_of(pair, image_set(classes=("cat", "dog", "cow")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "grad_camp"}, "`method` must be one of .*got 'grad_camp'"),
        ({"target": "student"}, "unknown class policy 'student'.*explain the same class"),
        ({"layer": "group9"}, "network 'teacher': unknown layer 'group9'"),
        ({"method": "cam", "layer": "group1"}, "network 'teacher': .*global average pooling"),
    ],
)
def test_settings_that_do_not_exist_are_named(
    pair: dict[str, StagedNetwork], settings: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        record_of(pair, image_set(), maps=MapSettings(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"ceiling": "other"},
            "`ceiling` must name a network other than the reference, and needs a reference; got 'other'",
        ),
        ({"ceiling": "teacher"}, "`ceiling` must name a network other than the reference, .* got 'teacher'"),
        ({"ceiling": "student", "reference": None}, "`ceiling` must name .* and needs a reference; got 'student'"),
        (
            {"settings": EvaluationSettings(held_out=("sailency",))},
            "held-out explainer: `method` must be one of .*'sailency'",
        ),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"sets": {}}, "`sets` is empty; give at least one test set"),
        ({"sets": {"none": image_set().subset([])}}, "test set 'none' has no images"),
        ({"reference": None, "maps": MapSettings(target="teacher")}, "class policy 'teacher' needs a reference"),
    ],
)
def test_what_does_not_fit_is_refused(pair: dict[str, StagedNetwork], change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(pair, **{"reference": "teacher", "sets": {"plain": image_set()}, "settings": ONE_PASS, **change})


@pytest.mark.parametrize("name", ["perturbed", "steps", "sanity", "resamples"])
def test_numbers_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"`{name}` must be at least ., got -1"):
        EvaluationSettings(**{name: -1})  # type: ignore[arg-type]
