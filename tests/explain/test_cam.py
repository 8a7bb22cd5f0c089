"""Compare class activation maps with the oracles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distill.explain import (
    cam,
    grad_cam,
    grad_cam_pp,
    positive_grad_cam,
)
from tests.explain import checks
from tests.explain.checks import FUNCTIONS, PAIRS, MapFunction, OracleFunction, inner_layer, smooth_point
from tests.oracles import cam as oracle

double = torch.float64


@pytest.mark.parametrize(("function", "reference"), PAIRS)
@pytest.mark.parametrize("scale", [1.0, 1e-3, 30.0])
def test_maps_match_the_oracle(function: MapFunction, reference: OracleFunction, scale: float) -> None:
    checks.check_matches_oracle(function, reference, scale=scale)


def test_grad_cam_is_clipped_at_zero() -> None:
    checks.check_map_is_clipped(grad_cam, oracle.grad_cam)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_derivatives(function: MapFunction) -> None:
    checks.check_gradients(function)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_neighbours_do_not_matter(function: MapFunction) -> None:
    checks.check_neighbours_do_not_matter(function)


@pytest.mark.parametrize("shape", checks.RANKS)
def test_cam_matches_the_oracle(shape: tuple[int, ...]) -> None:
    activations, _ = inner_layer(*shape)
    weights = torch.randn(*shape[:2], dtype=double)
    expected = torch.from_numpy(oracle.cam(activations.numpy(), weights.numpy()))
    assert 0 < int((expected == 0).sum()) < expected.numel()
    torch.testing.assert_close(cam(activations, weights), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", checks.RANKS)
def test_cam_is_grad_cam_times_the_number_of_sites(shape: tuple[int, ...]) -> None:
    activations, _ = inner_layer(*shape)
    weights = torch.randn(*shape[:2], dtype=double)
    sites = activations[0, 0].numel()
    gradients = (weights / sites).view(*shape[:2], *[1] * (len(shape) - 2))
    torch.testing.assert_close(cam(activations, weights), sites * grad_cam(activations, gradients))


def test_derivatives_of_cam() -> None:
    activations, _ = smooth_point(2, 3, 2, 2)
    weights = torch.tensor([[1.0, -0.1, 0.5], [0.3, 0.2, -0.1]], dtype=double)
    inputs = (activations.requires_grad_(), weights.requires_grad_())
    assert torch.autograd.gradcheck(cam, inputs)
    assert torch.autograd.gradgradcheck(cam, inputs)


@pytest.mark.usefixtures("unchecked")
def test_cam_refuses_other_channels() -> None:
    with pytest.raises(ValueError, match="channels"):
        cam(torch.ones(1, 2, 3), torch.ones(1, 4))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients_of_another_shape_are_refused(function: MapFunction) -> None:
    with pytest.raises(ValueError, match="gradients"):
        function(torch.ones(2, 3, 4, 4), torch.ones(2, 3, 2, 4))
    with pytest.raises(ValueError, match="gradients"):
        function(torch.ones(2, 3, 4, 4), torch.ones(2, 5, 4, 4))
    with pytest.raises(ValueError, match="gradients"):
        function(torch.ones(2, 3, 4, 4), torch.ones(2, 3, 1, 4))
    with pytest.raises(ValueError, match="activations"):
        function(torch.ones(2, 3), torch.ones(2, 3))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("shape", checks.RANKS)
def test_axes_of_size_one_stand_for_every_site(function: MapFunction, shape: tuple[int, ...]) -> None:
    activations, gradients = inner_layer(*shape)
    short = gradients[(slice(None), slice(None), *[slice(0, 1)] * (len(shape) - 2))]
    assert bool((short > 0).any())
    long = short.expand(shape).clone()
    torch.testing.assert_close(function(activations, short), function(activations, long), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_derivatives_of_axes_of_size_one(function: MapFunction) -> None:
    activations, gradients = smooth_point(2, 3, 2, 3)
    short = (gradients[:, :, :1, :1]).clone().requires_grad_()
    assert torch.autograd.gradcheck(function, (activations.requires_grad_(), short))
    assert torch.autograd.gradgradcheck(function, (activations, short))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (grad_cam, [0.0, 1.0]),
        (positive_grad_cam, [3.0, 10.0]),
        (grad_cam_pp, [3 / 11, 6 / 11 + 4 / 6]),
    ],
)
def test_pinned_maps(function: MapFunction, expected: list[float]) -> None:
    activations = torch.tensor([[[1.0, 2.0], [0.0, 4.0]]], dtype=double)
    gradients = torch.tensor([[[3.0, -4.0], [0.0, 1.0]]], dtype=double)
    assert function(activations, gradients)[0].tolist() == pytest.approx(expected, abs=1e-15)


def closed_form(activations: Tensor, class_weights: Tensor) -> Tensor:
    """relu(W_ck) / (2 + W_ck mean(A_k)), the weight of Grad-CAM++ under pooling and a linear layer."""
    weights = class_weights.relu() / (2 + class_weights * activations.flatten(2).mean(2))
    return torch.einsum("nk,nk...->n...", weights, activations).relu()


@pytest.mark.parametrize("shape", checks.RANKS)
def test_grad_cam_pp_under_pooling_has_a_closed_form(shape: tuple[int, ...]) -> None:
    activations, _ = inner_layer(*shape)
    class_weights = torch.randn(*shape[:2], dtype=double)
    gradients = (class_weights / activations[0, 0].numel()).view(*shape[:2], *[1] * (len(shape) - 2))
    found = grad_cam_pp(activations, gradients)
    torch.testing.assert_close(found, closed_form(activations, class_weights), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("function", "reference"), PAIRS)
def test_signed_activations_are_clipped_after_the_sum(function: MapFunction, reference: OracleFunction) -> None:
    _, gradients = inner_layer(3, 5, 3, 4, scale=0.02)
    activations = torch.randn(3, 5, 3, 4, dtype=double)
    assert float((2 + gradients * activations.flatten(2).sum(2)[:, :, None, None]).amin()) > 0.5
    expected = torch.from_numpy(reference(activations.numpy(), gradients.numpy()))
    assert 0 < int((expected == 0).sum()) < expected.numel()
    torch.testing.assert_close(function(activations, gradients), expected, rtol=0, atol=1e-12)
