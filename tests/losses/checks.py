"""Checks of losses. Tests apply them to the package, and to planted faults that must fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from distill.losses import explanation_loss
from distill.maps import Normalization
from tests.oracles import losses as oracle

SoftTargetLoss = Callable[[Tensor, Tensor, float], Tensor]
ExplanationLoss = Callable[[Tensor, Tensor, Normalization, str], Tensor]

SCALES: tuple[Normalization, ...] = ("l2", "max", "sum", "min_max", "none")
NAMES = ("squared_error", "cosine", "l1", "jensen_shannon")
SHAPES = [((3, 6), (3, 4)), ((3, 4, 4), (3, 2, 2)), ((2, 3, 3), (2, 5, 4)), ((2, 2, 3, 2), (2, 2, 3, 2))]


def measure(student: Tensor, teacher: Tensor, how: Normalization, distance: str) -> Tensor:
    return explanation_loss(student, teacher, normalize=how, distance=distance)


def random_maps(*shape: int, seed: int = 3) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.05


def logits(samples: int, classes: int, *, seed: int, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(samples, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def check_soft_targets(loss: SoftTargetLoss) -> None:
    """Compare with the sum written out, at several temperatures and sizes."""
    for temperature in (1.0, 2.0, 4.0, 20.0):
        for samples, classes in ((1, 2), (5, 3), (4, 10)):
            student, teacher = logits(samples, classes, seed=8), logits(samples, classes, seed=9)
            expected = oracle.soft_targets(student.numpy(), teacher.numpy(), temperature)
            assert float(loss(student, teacher, temperature)) == pytest.approx(expected, abs=1e-10, rel=1e-10)


def check_explanation(loss: ExplanationLoss, how: Normalization, distance: str) -> None:
    """Compare with the sum written out, for maps of equal and different size and of different scale in the batch."""
    for mine, theirs in SHAPES:
        student, teacher = random_maps(*mine, seed=8), random_maps(*theirs, seed=9)
        student[0], teacher[1] = 5 * student[0], 3 * teacher[1]
        expected = oracle.explanation(student.numpy(), teacher.numpy(), how, distance)
        found = loss(student, teacher, how, distance)
        assert found.shape == ()
        assert float(found) == pytest.approx(expected, abs=1e-10, rel=1e-10)
