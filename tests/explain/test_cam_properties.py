"""Properties of class activation maps: zeros, scales, signs and precisions."""

from __future__ import annotations

import pytest
import torch

from distill.explain import grad_cam, grad_cam_pp, positive_grad_cam
from tests.explain.checks import FUNCTIONS, PAIRS, MapFunction, OracleFunction, inner_layer

double = torch.float64


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_map_is_negative(function: MapFunction) -> None:
    activations, gradients = inner_layer(8, 6, 4, 4)
    maps = function(activations, gradients - 0.5)
    assert maps.shape == (8, 4, 4)
    assert float(maps.amin()) == 0.0
    assert float(maps.amax()) > 0.0


@pytest.mark.parametrize("function", FUNCTIONS)
def test_zero_gradients_give_a_zero_map(function: MapFunction) -> None:
    activations, gradients = inner_layer(3, 4, 3, 3)
    gradients[1] = 0.0
    activations.requires_grad_()
    gradients.requires_grad_()
    maps = function(activations, gradients)
    assert maps[1].tolist() == [[0.0] * 3] * 3
    found = torch.autograd.grad(maps.square().sum(), (activations, gradients))
    for gradient in found:
        assert bool(gradient.isfinite().all())
        assert float(gradient[1].abs().amax()) == 0.0
        assert float(gradient[0].abs().amax()) > 0.0


@pytest.mark.parametrize("function", FUNCTIONS)
def test_zero_activations_give_a_zero_map(function: MapFunction) -> None:
    _, gradients = inner_layer(2, 4, 3, 3)
    assert function(torch.zeros(2, 4, 3, 3, dtype=double), gradients).abs().amax() == 0


@pytest.mark.parametrize("function", [grad_cam, positive_grad_cam])
def test_linear_methods_scale_with_gradients_and_activations(function: MapFunction) -> None:
    activations, gradients = inner_layer(2, 4, 3, 3)
    maps = function(activations, gradients)
    torch.testing.assert_close(function(activations, 5 * gradients), 5 * maps)
    torch.testing.assert_close(function(7 * activations, gradients), 7 * maps)


def test_grad_cam_pp_sees_the_product_of_gradient_and_activations() -> None:
    activations, gradients = inner_layer(2, 4, 3, 3)
    maps = grad_cam_pp(activations, gradients)
    torch.testing.assert_close(grad_cam_pp(8 * activations, gradients / 8), maps)
    assert float((grad_cam_pp(8 * activations, gradients) - 8 * maps).abs().amax()) > 0.1 * float(maps.amax())


def test_grad_cam_pp_of_small_gradients_is_half_of_positive_grad_cam() -> None:
    activations, gradients = inner_layer(2, 4, 3, 3, scale=1e-9)
    expected = 0.5 * positive_grad_cam(activations, gradients)
    torch.testing.assert_close(grad_cam_pp(activations, gradients), expected, rtol=1e-7, atol=0)


def test_grad_cam_pp_of_large_gradients_counts_the_sites_with_one() -> None:
    activations, gradients = inner_layer(2, 4, 3, 3)
    activations += 0.1
    totals = activations.flatten(2).sum(2)
    counts = (gradients > 0).flatten(2).sum(2)
    expected = torch.einsum("nk,nkhw->nhw", counts / totals, activations)
    torch.testing.assert_close(grad_cam_pp(activations, gradients * 1e12), expected, rtol=1e-9, atol=0)


def test_grad_cam_pp_ignores_negative_gradients() -> None:
    activations, gradients = inner_layer(2, 4, 3, 3)
    assert bool((gradients < 0).any())
    torch.testing.assert_close(grad_cam_pp(activations, gradients), grad_cam_pp(activations, gradients.clamp(min=0)))


def test_a_negative_gradient_at_the_pole_of_alpha_does_nothing() -> None:
    activations = torch.tensor([[[1.0, 3.0]]], dtype=double, requires_grad=True)
    gradients = torch.tensor([[[-0.5, 1.0]]], dtype=double, requires_grad=True)
    maps = grad_cam_pp(activations, gradients)
    assert maps[0].tolist() == pytest.approx([1 / 6, 3 / 6], abs=1e-15)
    for gradient in torch.autograd.grad(maps.sum(), (activations, gradients)):
        assert bool(gradient.isfinite().all())


@pytest.mark.parametrize(("function", "reference"), PAIRS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_tiny_gradients(
    function: MapFunction, reference: OracleFunction, dtype: torch.dtype
) -> None:
    activations, gradients = inner_layer(2, 8, 4, 4, scale=1e-5)
    activations, gradients = activations.to(dtype), gradients.to(dtype)
    maps = function(activations, gradients)
    assert maps.dtype == torch.float32
    expected = torch.from_numpy(reference(activations.double().numpy(), gradients.double().numpy()))
    torch.testing.assert_close(maps.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.amax()))


@pytest.mark.parametrize("last", [-5.0, -7.0])
def test_the_denominator_of_signed_activations_is_held_above_zero(last: float) -> None:
    activations = torch.tensor([[[1.0, last]]], dtype=double, requires_grad=True)
    gradients = torch.tensor([[[0.5, 0.5]]], dtype=double, requires_grad=True)
    maps = grad_cam_pp(activations, gradients)
    assert maps[0].tolist() == pytest.approx([1000.0, 0.0])
    for gradient in torch.autograd.grad(maps.sum(), (activations, gradients)):
        assert bool(gradient.isfinite().all())


def test_float32_stays_and_float64_stays() -> None:
    activations, gradients = inner_layer(1, 2, 3)
    assert grad_cam_pp(activations, gradients).dtype == double
    assert grad_cam_pp(activations.float(), gradients.float()).dtype == torch.float32


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_broken_gradient_is_not_hidden(function: MapFunction) -> None:
    activations, gradients = inner_layer(2, 3, 2, 2)
    activations += 0.1
    gradients[0, 0, 0, 0] = torch.nan
    maps = function(activations, gradients)
    assert bool(maps[0].isnan().all())
    assert bool(maps[1].isfinite().all())
