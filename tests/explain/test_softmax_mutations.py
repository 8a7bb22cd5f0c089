"""Planted faults in Grad-CAM++ of the softmax probability."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.explain.test_softmax_score import SoftmaxMap, check_derivatives, check_is_the_true_derivative


def variant(
    *, skew: float = 1.0, variance: float = 1.0, detach: bool = False, relu: bool = True, uniform: bool = False
) -> SoftmaxMap:
    """Return the map of equations 21 to 24 with one part changed."""

    def function(activations: Tensor, gradients: Tensor, logits: Tensor, target: Tensor) -> Tensor:
        p = torch.full_like(logits, 1 / 3) if uniform else logits.softmax(1)
        p = p.view(*p.shape, *[1] * (gradients.ndim - 2))
        centred = gradients - (p * gradients).sum(1, keepdim=True)
        v, m = (p * centred**2).sum(1), (p * centred**3).sum(1)
        d = centred[torch.arange(len(target)), target]
        second, third = d**2 - variance * v, d**3 - 3 * d * v - skew * m
        total = activations.flatten(2).sum(2).view(*activations.shape[:2], *[1] * (d.ndim - 2))
        alpha = second / (2 * second + third * total)
        alpha = alpha.detach() if detach else alpha
        alpha = (alpha * (d.relu() if relu else d)).expand_as(activations)
        return torch.einsum("nk,nk...->n...", alpha.flatten(2).sum(2), activations).relu()

    return function


def test_a_right_variant_passes() -> None:
    check_is_the_true_derivative(variant())
    check_derivatives(variant())


@pytest.mark.parametrize(
    "fault",
    [variant(skew=0.0), variant(skew=-1.0), variant(variance=0.0), variant(relu=False), variant(uniform=True)],
)
def test_wrong_moments_are_found(fault: SoftmaxMap) -> None:
    with pytest.raises(AssertionError):
        check_is_the_true_derivative(fault)


def test_a_detached_alpha_is_found() -> None:
    check_is_the_true_derivative(variant(detach=True))
    with pytest.raises(AssertionError):
        check_derivatives(variant(detach=True))
