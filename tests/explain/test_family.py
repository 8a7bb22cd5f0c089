"""Compare XGrad-CAM, HiResCAM, Layer-CAM, activation attention and signed Grad-CAM++ with the oracles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distill.explain import (
    activation_attention,
    cam,
    grad_cam,
    grad_cam_pp,
    grad_cam_pp_signed,
    hires_cam,
    layer_cam,
    xgrad_cam,
)
from tests.explain import checks
from tests.explain.checks import MapFunction, OracleFunction, inner_layer, smooth_point
from tests.oracles import family as oracle
from tests.oracles.cam import Array

double = torch.float64


def attention(activations: Tensor, gradients: Tensor) -> Tensor:
    """Activation attention with the signature of the other methods; the gradients are not used."""
    return activation_attention(activations)


def attention_oracle(activations: Array, gradients: Array) -> Array:
    return oracle.activation_attention(activations)


PAIRS: list[tuple[MapFunction, OracleFunction]] = [
    (xgrad_cam, oracle.xgrad_cam),
    (hires_cam, oracle.hires_cam),
    (layer_cam, oracle.layer_cam),
    (grad_cam_pp_signed, oracle.grad_cam_pp_signed),
]
FUNCTIONS = [function for function, _ in PAIRS]


def check_constant_gradients(function: MapFunction, reference: OracleFunction) -> None:
    """Check that gradients with spatial axes of size 1 give the map of the expanded gradients."""
    for shape in checks.RANKS:
        activations, gradients = inner_layer(*shape)
        short = gradients[(slice(None), slice(None), *[slice(0, 1)] * (len(shape) - 2))]
        full = short.expand(shape).contiguous()
        expected = torch.from_numpy(reference(activations.numpy(), full.numpy()))
        assert float(expected.amax()) > 0
        found = function(activations, short)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10 * float(expected.amax()))


# Where its denominator is held, the signed form is negative almost everywhere: mild gradients leave something to see.
SCALED = [
    (function, reference, scale)
    for function, reference in PAIRS
    for scale in ((0.1, 1e-3) if function is grad_cam_pp_signed else (1.0, 1e-3, 30.0))
]


@pytest.mark.parametrize(("function", "reference", "scale"), SCALED)
def test_maps_match_the_oracle(function: MapFunction, reference: OracleFunction, scale: float) -> None:
    checks.check_matches_oracle(function, reference, scale=scale)


@pytest.mark.parametrize(("function", "reference"), PAIRS)
def test_constant_gradients_match_the_oracle(function: MapFunction, reference: OracleFunction) -> None:
    check_constant_gradients(function, reference)


@pytest.mark.parametrize("shape", checks.RANKS)
def test_activation_attention_matches_the_oracle(shape: tuple[int, ...]) -> None:
    activations, _ = inner_layer(*shape)
    expected = torch.from_numpy(oracle.activation_attention(activations.numpy()))
    torch.testing.assert_close(activation_attention(activations), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_derivatives(function: MapFunction) -> None:
    checks.check_gradients(function)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_derivatives_of_constant_gradients(function: MapFunction) -> None:
    activations, gradients = smooth_point(2, 3, 2, 3)
    inputs = (activations.requires_grad_(), gradients[:, :, :1, :1].clone().requires_grad_())
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_derivatives_of_activation_attention() -> None:
    activations, _ = smooth_point(2, 3, 2, 2)
    assert torch.autograd.gradcheck(activation_attention, activations.requires_grad_())
    assert torch.autograd.gradgradcheck(activation_attention, activations)


@pytest.mark.parametrize("function", [*FUNCTIONS, attention])
def test_neighbours_do_not_matter(function: MapFunction) -> None:
    checks.check_neighbours_do_not_matter(function)


@pytest.mark.parametrize("shape", checks.RANKS)
def test_under_pooling_xgrad_cam_and_hires_cam_are_grad_cam(shape: tuple[int, ...]) -> None:
    activations, gradients = inner_layer(*shape)
    short = gradients[(slice(None), slice(None), *[slice(0, 1)] * (len(shape) - 2))]
    expected = grad_cam(activations, short)
    assert float(expected.amax()) > 0
    for function in (xgrad_cam, hires_cam):
        torch.testing.assert_close(function(activations, short), expected, rtol=1e-12, atol=1e-14)
        unlike = function(activations, gradients) - grad_cam(activations, gradients)
        assert float(unlike.abs().amax()) > 0.01


@pytest.mark.parametrize("shape", checks.RANKS)
def test_cam_is_the_sites_times_each_of_them(shape: tuple[int, ...]) -> None:
    activations, _ = inner_layer(*shape)
    weights = torch.randn(*shape[:2], dtype=double)
    sites = activations[0, 0].numel()
    gradients = (weights / sites).view(*shape[:2], *[1] * (len(shape) - 2))
    for function in (grad_cam, xgrad_cam, hires_cam):
        torch.testing.assert_close(sites * function(activations, gradients), cam(activations, weights))


def test_without_negative_gradients_the_signed_form_is_the_other() -> None:
    activations, gradients = inner_layer(3, 5, 3, 4)
    found = grad_cam_pp_signed(activations, gradients.relu())
    torch.testing.assert_close(found, grad_cam_pp(activations, gradients), rtol=1e-12, atol=1e-14)
    assert not torch.allclose(grad_cam_pp_signed(activations, gradients), found)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (xgrad_cam, [0.0, 2 / 3]),  # weights -5/3 and 1
        (hires_cam, [3.0, 0.0]),
        (layer_cam, [3.0, 4.0]),
        (attention, [1.0, 20.0]),
        (grad_cam_pp_signed, [0.0, 0.0]),  # -4 meets 2 - 12, held at 1e-3
    ],
)
def test_pinned_maps(function: MapFunction, expected: list[float]) -> None:
    activations = torch.tensor([[[1.0, 2.0], [0.0, 4.0]]], dtype=double)
    gradients = torch.tensor([[[3.0, -4.0], [0.0, 1.0]]], dtype=double)
    assert function(activations, gradients)[0].tolist() == pytest.approx(expected, abs=1e-14)


def check_the_pole_is_held(function: MapFunction) -> None:
    """Check that the denominator is clamped at 1e-3 where a negative gradient brings it below 0."""
    activations = torch.tensor([[[3.0, 1e-4], [5000.0, 8000.0]]], dtype=double)
    gradients = torch.tensor([[[-1.0, 0.0], [1.0, 0.0]]], dtype=double)
    expected = [0.0, -1000 * 1e-4 + 8000 / 13002]
    assert function(activations, gradients)[0].tolist() == pytest.approx(expected, rel=1e-12)


def test_the_pole_of_the_signed_form_is_held() -> None:
    check_the_pole_is_held(grad_cam_pp_signed)


def test_pinned_map_of_the_signed_form() -> None:
    activations = torch.tensor([[[0.5, 0.25]]], dtype=double)
    gradients = torch.tensor([[[2.0, -0.4]]], dtype=double)
    weight = 2 / (2 + 2 * 0.75) - 0.4 / (2 - 0.4 * 0.75)
    assert grad_cam_pp_signed(activations, gradients)[0].tolist() == pytest.approx([0.5 * weight, 0.25 * weight])


@pytest.mark.parametrize("function", [*FUNCTIONS, attention])
def test_a_channel_without_activation_gives_no_nan(function: MapFunction) -> None:
    activations, gradients = inner_layer(2, 3, 2, 2)
    activations[:, 1] = 0
    activations[1] = 0
    leaves = (activations.requires_grad_(), gradients.requires_grad_())
    maps = function(*leaves)
    assert bool(maps.detach()[0].any())
    assert not bool(maps.detach()[1].any())
    derivatives = torch.autograd.grad(maps.sum(), leaves, allow_unused=True, materialize_grads=True)
    assert all(bool(d.isfinite().all()) for d in derivatives)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("function", FUNCTIONS)
def test_wrong_shapes_are_refused(function: MapFunction) -> None:
    with pytest.raises(ValueError, match="gradients"):
        function(torch.ones(2, 3, 4, 4), torch.ones(2, 3, 2, 4))
    with pytest.raises(ValueError, match="no spatial axes"):
        function(torch.ones(2, 3), torch.ones(2, 3))
    with pytest.raises(ValueError, match="no spatial axes"):
        activation_attention(torch.ones(2, 3))
