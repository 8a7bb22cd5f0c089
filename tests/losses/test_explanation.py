"""Explanation matching."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from distill.losses import DISTANCES, explanation_loss
from distill.maps import Normalization
from tests.losses import checks
from tests.losses.checks import NAMES, SCALES, measure, random_maps

double = torch.float64


def test_the_four_distances() -> None:
    assert sorted(DISTANCES) == sorted(NAMES)


@pytest.mark.parametrize("distance", NAMES)
@pytest.mark.parametrize("how", SCALES)
def test_values_match_the_oracle(how: Normalization, distance: str) -> None:
    checks.check_explanation(measure, how, distance)


@pytest.mark.parametrize(
    ("how", "distance", "expected"),
    [
        ("l2", "squared_error", 0.08),
        ("l2", "cosine", 0.04),
        ("l2", "l1", 0.4),
        ("none", "squared_error", 2.0),
        ("none", "l1", 2.0),
        ("none", "cosine", 0.04),
        ("max", "squared_error", 0.125),
        ("sum", "squared_error", 2 / 49),
        ("sum", "l1", 2 / 7),
        ("sum", "jensen_shannon", 0.010239075859473604),
    ],
)
def test_pinned_values(how: Normalization, distance: str, expected: float) -> None:
    student, teacher = torch.tensor([[3.0, 4.0]], dtype=double), torch.tensor([[4.0, 3.0]], dtype=double)
    assert float(measure(student, teacher, how, distance)) == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize(
    ("distance", "expected"), [("squared_error", 2.0), ("cosine", 1.0), ("l1", 2.0), ("jensen_shannon", math.log(2))]
)
def test_maps_without_overlap(distance: str, expected: float) -> None:
    student, teacher = torch.tensor([[5.0, 0.0]], dtype=double), torch.tensor([[0.0, 3.0]], dtype=double)
    for how in ("l2", "sum", "max"):
        assert float(measure(student, teacher, how, distance)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("distance", NAMES)
def test_sum_over_sites_and_mean_over_samples(distance: str) -> None:
    student, teacher = random_maps(4, 3, 3, seed=1), random_maps(4, 3, 3, seed=2)
    each = [float(measure(student[n : n + 1], teacher[n : n + 1], "l2", distance)) for n in range(4)]
    assert float(measure(student, teacher, "l2", distance)) == pytest.approx(sum(each) / 4, rel=1e-12)
    order = torch.tensor([2, 0, 3, 1])
    assert float(measure(student[order], teacher[order], "l2", distance)) == pytest.approx(sum(each) / 4, rel=1e-12)


def test_squared_error_is_twice_the_cosine_distance_under_l2() -> None:
    student, teacher = random_maps(5, 4, 4, seed=1), random_maps(5, 2, 2, seed=2)
    square = measure(student, teacher, "l2", "squared_error")
    torch.testing.assert_close(square, 2 * measure(student, teacher, "l2", "cosine"), rtol=1e-12, atol=0)


@pytest.mark.parametrize("distance", NAMES)
@pytest.mark.parametrize("how", SCALES)
def test_the_distance_to_itself_is_zero(how: Normalization, distance: str) -> None:
    maps = random_maps(3, 4, 4).requires_grad_()
    loss = measure(maps, maps.detach().clone(), how, distance)
    assert abs(float(loss.detach())) < 1e-14
    (gradient,) = torch.autograd.grad(loss, maps)
    assert float(gradient.abs().amax()) < 1e-8


@pytest.mark.parametrize("distance", NAMES)
@pytest.mark.parametrize("how", ["l2", "max", "sum", "min_max"])
def test_scale_of_either_map_does_not_matter(how: Normalization, distance: str) -> None:
    student, teacher = random_maps(3, 4, 4, seed=1), random_maps(3, 4, 4, seed=2)
    expected = float(measure(student, teacher, how, distance))
    assert expected > 1e-3
    assert float(measure(1e3 * student, 1e-3 * teacher, how, distance)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("distance", NAMES)
def test_distances_are_symmetric(distance: str) -> None:
    student, teacher = random_maps(3, 4, 4, seed=1), random_maps(3, 4, 4, seed=2)
    there, back = measure(student, teacher, "sum", distance), measure(teacher, student, "sum", distance)
    torch.testing.assert_close(there, back, rtol=1e-12, atol=0)


@pytest.mark.parametrize("distance", NAMES)
@pytest.mark.parametrize("how", SCALES)
def test_derivatives(how: Normalization, distance: str) -> None:
    student, teacher = random_maps(2, 2, 3, seed=1), random_maps(2, 3, 2, seed=2)

    def loss(maps: Tensor) -> Tensor:
        return measure(maps, teacher, how, distance)

    assert torch.autograd.gradcheck(loss, (student.requires_grad_(),))
    assert torch.autograd.gradgradcheck(loss, (student,))


def test_nothing_flows_into_the_teacher() -> None:
    student, teacher = random_maps(2, 4, 4, seed=1).requires_grad_(), random_maps(2, 2, 2, seed=2).requires_grad_()
    measure(student, teacher, "l2", "squared_error").backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert float(student.grad.norm()) > 1e-3


def test_the_teacher_is_resized_first_and_normalised_after() -> None:
    teacher = torch.tensor([[0.0, 4.0]], dtype=double)
    student = torch.tensor([[0.0, 1.0, 3.0, 4.0]], dtype=double)
    for how in SCALES:
        assert float(measure(student, teacher, how, "squared_error")) == pytest.approx(0.0, abs=1e-15)
        assert float(measure(2 * student, 3 * teacher, how, "squared_error")) == pytest.approx(
            26.0 if how == "none" else 0.0, abs=1e-12
        )


def test_an_unknown_distance_names_the_known_ones() -> None:
    maps = random_maps(1, 2, 2)
    with pytest.raises(ValueError, match="l4") as caught:
        explanation_loss(maps, maps, normalize="l2", distance="l4")
    assert all(name in str(caught.value) for name in NAMES)


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_normalisation_names_the_known_ones() -> None:
    maps = random_maps(1, 2, 2)
    with pytest.raises(ValueError, match="l3") as caught:
        explanation_loss(maps, maps, normalize="l3", distance="cosine")  # type: ignore[arg-type]
    assert all(name in str(caught.value) for name in SCALES)


@pytest.mark.usefixtures("unchecked")
def test_maps_of_other_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sample|batch|shape|maps"):
        explanation_loss(random_maps(2, 3, 3), random_maps(1, 3, 3), normalize="l2", distance="squared_error")
