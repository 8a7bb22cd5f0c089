"""Soft targets."""

from __future__ import annotations

import math

import jaxtyping
import pytest
import torch
from torch import Tensor

from distill.losses import soft_target_loss
from tests.losses import checks
from tests.losses.checks import logits

double = torch.float64


def test_values_match_the_oracle() -> None:
    checks.check_soft_targets(lambda s, t, temperature: soft_target_loss(s, t, temperature=temperature))


@pytest.mark.parametrize(
    ("temperature", "teacher"),
    [(1.0, [math.log(3), 0.0]), (2.0, [2 * math.log(3), 0.0]), (4.0, [4 * math.log(3), 0.0])],
)
def test_pinned_value_with_temperature_squared(temperature: float, teacher: list[float]) -> None:
    # KL((3/4, 1/4) || (1/2, 1/2)) = 0.75 ln 1.5 + 0.25 ln 0.5
    found = soft_target_loss(
        torch.zeros(1, 2, dtype=double), torch.tensor([teacher], dtype=double), temperature=temperature
    )
    assert float(found) == pytest.approx(temperature**2 * 0.130812035941137, abs=1e-12)


def test_sum_over_classes_and_mean_over_samples() -> None:
    student, teacher = logits(3, 7, seed=1), logits(3, 7, seed=2)
    each = [float(soft_target_loss(student[n : n + 1], teacher[n : n + 1], temperature=4.0)) for n in range(3)]
    assert float(soft_target_loss(student, teacher, temperature=4.0)) == pytest.approx(sum(each) / 3, rel=1e-12)
    wider = [torch.cat([x, torch.full((3, 1), -1e4, dtype=double)], 1) for x in (student, teacher)]
    assert float(soft_target_loss(*wider, temperature=4.0)) == pytest.approx(sum(each) / 3, rel=1e-12)


def test_the_gradient_is_temperature_times_the_difference_of_probabilities() -> None:
    student, teacher = logits(4, 5, seed=1).requires_grad_(), logits(4, 5, seed=2)
    for temperature in (1.0, 4.0):
        loss = soft_target_loss(student, teacher, temperature=temperature)
        (gradient,) = torch.autograd.grad(loss, student)
        difference = (student / temperature).softmax(1) - (teacher / temperature).softmax(1)
        torch.testing.assert_close(gradient, temperature * difference.detach() / 4, rtol=1e-10, atol=1e-12)


def test_the_gradient_hardly_depends_on_a_high_temperature() -> None:
    student, teacher = logits(4, 5, seed=1, scale=0.1).requires_grad_(), logits(4, 5, seed=2, scale=0.1)
    sizes = []
    for temperature in (10.0, 40.0):
        loss = soft_target_loss(student, teacher, temperature=temperature)
        sizes.append(float(torch.autograd.grad(loss, student)[0].norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)


def test_derivatives() -> None:
    student, teacher = logits(3, 4, seed=1).requires_grad_(), logits(3, 4, seed=2)

    def loss(x: Tensor) -> Tensor:
        return soft_target_loss(x, teacher, temperature=3.0)

    assert torch.autograd.gradcheck(loss, (student,))
    assert torch.autograd.gradgradcheck(loss, (student,))


def test_nothing_flows_into_the_teacher() -> None:
    student, teacher = logits(3, 4, seed=1).requires_grad_(), logits(3, 4, seed=2).requires_grad_()
    soft_target_loss(student, teacher, temperature=3.0).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert float(student.grad.norm()) > 1e-3


def test_the_distance_to_itself_is_zero_and_a_shift_is_nothing() -> None:
    student = logits(3, 4, seed=1)
    assert abs(float(soft_target_loss(student, student.clone(), temperature=4.0))) < 1e-14
    assert abs(float(soft_target_loss(student, student + 7.0, temperature=4.0))) < 1e-13


def test_the_teacher_comes_first() -> None:
    student, teacher = logits(3, 4, seed=1), logits(3, 4, seed=2)
    there = float(soft_target_loss(student, teacher, temperature=1.0))
    back = float(soft_target_loss(teacher, student, temperature=1.0))
    assert min(there, back) > 0
    assert abs(there - back) > 0.1


def test_permutation_of_samples_and_classes() -> None:
    student, teacher = logits(5, 4, seed=1), logits(5, 4, seed=2)
    expected = float(soft_target_loss(student, teacher, temperature=4.0))
    rows, columns = torch.tensor([4, 2, 0, 1, 3]), torch.tensor([3, 0, 2, 1])
    found = soft_target_loss(student[rows][:, columns], teacher[rows][:, columns], temperature=4.0)
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saturated_logits_stay_finite(dtype: torch.dtype) -> None:
    student = torch.tensor([[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-1e4, 0.0, 1e4], [-1e4, 1e4, 0.0]], dtype=dtype)
    loss = soft_target_loss(student, teacher, temperature=4.0)
    assert float(loss.detach()) == pytest.approx(16 * 2e4 / 4 / 2, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.tolist() == [[2.0, 0.0, -2.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype: torch.dtype) -> None:
    student, teacher = logits(4, 10, seed=1).to(dtype), logits(4, 10, seed=2).to(dtype)
    found = soft_target_loss(student, teacher, temperature=4.0)
    assert found.dtype == torch.float32
    expected = float(soft_target_loss(student.double(), teacher.double(), temperature=4.0))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_nan_is_not_hidden() -> None:
    student, teacher = logits(2, 3, seed=1), logits(2, 3, seed=2)
    for spoil in (student, teacher):
        broken = spoil.clone()
        broken[1, 1] = math.nan
        arguments = (broken, teacher) if spoil is student else (student, broken)
        assert math.isnan(float(soft_target_loss(*arguments, temperature=4.0)))


def test_the_shapes_of_signatures_are_checked_in_tests() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="classes"):
        soft_target_loss(torch.zeros(2, 3), torch.zeros(2, 4), temperature=4.0)


@pytest.mark.usefixtures("unchecked")
def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="classes"):
        soft_target_loss(torch.zeros(2, 3), torch.zeros(2, 4), temperature=4.0)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        soft_target_loss(torch.zeros(2, 3), torch.zeros(2, 3), temperature=temperature)
