"""Planted faults: each must fail a check that the package passes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses import explanation_loss
from distill.maps import Normalization, normalize_maps, resize_maps
from tests.losses import checks
from tests.losses.checks import ExplanationLoss, SoftTargetLoss


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    log_q, log_p = (student / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def right(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return temperature**2 * divergence(student, teacher, temperature)


def temperature_not_squared(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return temperature * divergence(student, teacher, temperature)


def no_temperature_factor(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return divergence(student, teacher, temperature)


def mean_over_classes(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return temperature**2 * divergence(student, teacher, temperature) / student.shape[1]


def sum_over_samples(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return temperature**2 * divergence(student, teacher, temperature) * len(student)


def reversed_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return temperature**2 * divergence(teacher, student, temperature)


def softmax_over_samples(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return right(student.T, teacher.T, temperature)


def no_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return temperature**2 * F.cross_entropy(student / temperature, (teacher / temperature).softmax(1))


def test_right_soft_targets_pass() -> None:
    checks.check_soft_targets(right)


@pytest.mark.parametrize(
    "fault",
    [
        temperature_not_squared,
        no_temperature_factor,
        mean_over_classes,
        sum_over_samples,
        reversed_divergence,
        softmax_over_samples,
        no_entropy,
    ],
)
def test_wrong_soft_targets_are_found(fault: SoftTargetLoss) -> None:
    with pytest.raises(AssertionError):
        checks.check_soft_targets(fault)


def compare(student: Tensor, teacher: Tensor) -> Tensor:
    return (student - teacher).square().flatten(1).sum(1).mean()


def right_explanation(student: Tensor, teacher: Tensor, how: Normalization, distance: str) -> Tensor:
    resized = resize_maps(teacher, student.shape[1:])
    return compare(normalize_maps(student, how), normalize_maps(resized, how))


def normalised_before_resizing(student: Tensor, teacher: Tensor, how: Normalization, distance: str) -> Tensor:
    return compare(normalize_maps(student, how), resize_maps(normalize_maps(teacher, how), student.shape[1:]))


def student_resized(student: Tensor, teacher: Tensor, how: Normalization, distance: str) -> Tensor:
    return right_explanation(teacher, student, how, distance)


def corners_aligned(student: Tensor, teacher: Tensor, how: Normalization, distance: str) -> Tensor:
    if student.ndim != 3:
        return right_explanation(student, teacher, how, distance)
    resized = F.interpolate(teacher[:, None], size=student.shape[1:], mode="bilinear", align_corners=True)[:, 0]
    return compare(normalize_maps(student, how), normalize_maps(resized, how))


def normalised_over_the_batch(student: Tensor, teacher: Tensor, how: Normalization, distance: str) -> Tensor:
    resized = resize_maps(teacher, student.shape[1:])
    pair = [normalize_maps(maps[None], how)[0] for maps in (student, resized)]
    return compare(*pair)


def mean_over_sites(student: Tensor, teacher: Tensor, how: Normalization, distance: str) -> Tensor:
    return right_explanation(student, teacher, how, distance) / student[0].numel()


def sum_over_the_batch(student: Tensor, teacher: Tensor, how: Normalization, distance: str) -> Tensor:
    return right_explanation(student, teacher, how, distance) * len(student)


def root_of_the_sum(student: Tensor, teacher: Tensor, how: Normalization, distance: str) -> Tensor:
    resized = resize_maps(teacher, student.shape[1:])
    difference = normalize_maps(student, how) - normalize_maps(resized, how)
    return difference.square().flatten(1).sum(1).sqrt().mean()


def teacher_not_normalised(student: Tensor, teacher: Tensor, how: Normalization, distance: str) -> Tensor:
    return compare(normalize_maps(student, how), resize_maps(teacher, student.shape[1:]))


def half_cosine(student: Tensor, teacher: Tensor, how: Normalization, distance: str) -> Tensor:
    return explanation_loss(student, teacher, normalize=how, distance="cosine")


def test_a_right_explanation_loss_passes() -> None:
    for how in checks.SCALES:
        checks.check_explanation(right_explanation, how, "squared_error")


@pytest.mark.parametrize("how", ["l2", "max", "sum", "min_max"])
@pytest.mark.parametrize(
    "fault",
    [
        normalised_before_resizing,
        student_resized,
        corners_aligned,
        normalised_over_the_batch,
        mean_over_sites,
        sum_over_the_batch,
        root_of_the_sum,
        teacher_not_normalised,
        half_cosine,
    ],
)
def test_wrong_explanation_losses_are_found(fault: ExplanationLoss, how: Normalization) -> None:
    with pytest.raises(AssertionError):
        checks.check_explanation(fault, how, "squared_error")


def test_a_divergence_in_bits_is_found() -> None:
    def fault(student: Tensor, teacher: Tensor, how: Normalization, distance: str) -> Tensor:
        return explanation_loss(student, teacher, normalize=how, distance=distance) / torch.tensor(2.0).log()

    with pytest.raises(AssertionError):
        checks.check_explanation(fault, "sum", "jensen_shannon")
