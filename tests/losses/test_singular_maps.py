"""Explanation matching for maps that are empty, partly zero, very small or not finite."""

from __future__ import annotations

import math

import pytest
import torch

from distill.maps import Normalization
from tests.losses.checks import NAMES, SCALES, measure, random_maps

double = torch.float64


@pytest.mark.parametrize("distance", NAMES)
@pytest.mark.parametrize("how", SCALES)
def test_two_empty_maps_are_equal(how: Normalization, distance: str) -> None:
    student = torch.zeros(2, 3, 3, dtype=double, requires_grad=True)
    loss = measure(student, torch.zeros(2, 3, 3, dtype=double), how, distance)
    assert float(loss.detach()) == 0.0
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.flatten().tolist() == [0.0] * 18


@pytest.mark.parametrize("distance", NAMES)
@pytest.mark.parametrize("how", ["l2", "max", "sum", "min_max"])
def test_an_empty_student_map_trains_nothing(how: Normalization, distance: str) -> None:
    student, teacher = random_maps(3, 3, 3, seed=1), random_maps(3, 3, 3, seed=2)
    student[1] = 0.0
    student.requires_grad_()
    loss = measure(student, teacher, how, distance)
    assert bool(loss.isfinite())
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient[1].flatten().tolist() == [0.0] * 9
    assert bool(gradient.isfinite().all())
    assert float(gradient[0].norm()) > 0
    assert float(gradient[2].norm()) > 0


@pytest.mark.parametrize("distance", NAMES)
@pytest.mark.parametrize("how", ["l2", "max", "sum", "min_max"])
def test_an_empty_teacher_map_is_finite(how: Normalization, distance: str) -> None:
    student, teacher = random_maps(3, 3, 3, seed=1).requires_grad_(), random_maps(3, 3, 3, seed=2)
    teacher[1] = 0.0
    loss = measure(student, teacher, how, distance)
    assert bool(loss.isfinite())
    (gradient,) = torch.autograd.grad(loss, student)
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("distance", ["squared_error", "cosine"])
def test_an_empty_map_is_as_far_as_one_without_overlap_or_nearer(distance: str) -> None:
    student, teacher = torch.zeros(1, 4, dtype=double), random_maps(1, 4)
    for pair in ((student, teacher), (teacher, student)):
        assert float(measure(*pair, "l2", distance)) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("distance", NAMES)
def test_sites_that_are_zero_have_a_finite_gradient(distance: str) -> None:
    student = torch.tensor([[0.0, 0.0, 2.0, 1.0]], dtype=double, requires_grad=True)
    teacher = torch.tensor([[0.0, 1.0, 0.0, 1.0]], dtype=double)
    loss = measure(student, teacher, "l2", distance)
    assert bool(loss.isfinite())
    (gradient,) = torch.autograd.grad(loss, student)
    assert bool(gradient.isfinite().all())
    assert float(gradient[0, 2:].abs().amax()) > 1e-3


@pytest.mark.parametrize("distance", NAMES)
@pytest.mark.parametrize("how", SCALES)
def test_nan_is_not_hidden(how: Normalization, distance: str) -> None:
    student, teacher = random_maps(2, 3, 3, seed=1), random_maps(2, 3, 3, seed=2)
    broken = student.clone()
    broken[1, 2, 2] = math.nan
    assert math.isnan(float(measure(broken, teacher, how, distance)))
    assert math.isnan(float(measure(student, broken, how, distance)))


@pytest.mark.parametrize("distance", NAMES)
def test_half_precision_is_widened(distance: str) -> None:
    student, teacher = random_maps(2, 4, 4, seed=1).half(), random_maps(2, 4, 4, seed=2).half()
    found = measure(student * 1e-3, teacher * 1e-3, "l2", distance)
    assert found.dtype == torch.float32
    expected = float(measure((student * 1e-3).double(), (teacher * 1e-3).double(), "l2", distance))
    assert float(found) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("distance", NAMES)
def test_float32_maps_of_tiny_scale(distance: str) -> None:
    student, teacher = random_maps(2, 4, 4, seed=1), random_maps(2, 4, 4, seed=2)
    expected = float(measure(student, teacher, "l2", distance))
    found = float(measure(student.float() * 1e-25, teacher.float() * 1e-25, "l2", distance))
    assert found == pytest.approx(expected, rel=1e-3)
