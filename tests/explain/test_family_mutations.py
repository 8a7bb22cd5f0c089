"""Planted faults in the other methods: each must fail a check that the package passes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distill.explain import (
    grad_cam,
    grad_cam_pp,
    grad_cam_pp_signed,
    layer_cam,
)
from tests.explain import checks
from tests.explain.checks import MapFunction, OracleFunction
from tests.explain.test_family import (
    FUNCTIONS,
    attention,
    attention_oracle,
    check_constant_gradients,
    check_the_pole_is_held,
)
from tests.oracles import family as oracle


def einsum_map(weights: Tensor, activations: Tensor) -> Tensor:
    return torch.einsum("nk,nk...->n...", weights, activations).relu()


def mean_of_products(activations: Tensor, gradients: Tensor) -> Tensor:
    """XGrad-CAM divided by the number of sites instead of the sum of the activation."""
    return einsum_map((activations * gradients.expand_as(activations)).flatten(2).mean(2), activations)


def normalised_over_channels(activations: Tensor, gradients: Tensor) -> Tensor:
    weights = (activations * gradients).flatten(2).sum(2) / activations.flatten(1).sum(1)[:, None]
    return einsum_map(weights, activations)


def sum_before_the_relu(activations: Tensor, gradients: Tensor) -> Tensor:
    """Layer-CAM with one relu, after the sum: HiResCAM."""
    return (activations * gradients).sum(1).relu()


def no_last_relu(activations: Tensor, gradients: Tensor) -> Tensor:
    return (activations * gradients).sum(1)


def not_squared(activations: Tensor, gradients: Tensor) -> Tensor:
    return activations.abs().sum(1)


def mean_over_channels(activations: Tensor, gradients: Tensor) -> Tensor:
    return activations.square().mean(1)


def not_held(activations: Tensor, gradients: Tensor) -> Tensor:
    """Signed Grad-CAM++ without the clamp of the denominator."""
    total = activations.flatten(2).sum(2).view(*activations.shape[:2], *[1] * (activations.ndim - 2))
    return einsum_map((gradients / (2 + gradients * total)).flatten(2).sum(2), activations)


def counted_once(activations: Tensor, gradients: Tensor) -> Tensor:
    """Signed Grad-CAM++ that counts a constant gradient once instead of once per site."""
    sites = activations[0, 0].numel() // gradients[0, 0].numel()
    return grad_cam_pp_signed(activations, gradients) / sites


@pytest.mark.parametrize(
    ("fault", "reference"),
    [
        (mean_of_products, oracle.xgrad_cam),
        (normalised_over_channels, oracle.xgrad_cam),
        (grad_cam, oracle.xgrad_cam),
        (no_last_relu, oracle.hires_cam),
        (layer_cam, oracle.hires_cam),
        (sum_before_the_relu, oracle.layer_cam),
        (not_squared, attention_oracle),
        (mean_over_channels, attention_oracle),
        (grad_cam_pp, oracle.grad_cam_pp_signed),
    ],
)
def test_wrong_maps_are_found(fault: MapFunction, reference: OracleFunction) -> None:
    checks.check_matches_oracle(attention, attention_oracle)
    with pytest.raises(AssertionError, match="not close"):
        checks.check_matches_oracle(fault, reference, scale=0.1)


def test_a_pole_that_is_not_held_is_found() -> None:
    checks.check_matches_oracle(not_held, oracle.grad_cam_pp_signed, scale=1e-3)
    with pytest.raises(AssertionError):
        check_the_pole_is_held(not_held)


def test_a_constant_gradient_counted_once_is_found() -> None:
    checks.check_matches_oracle(counted_once, oracle.grad_cam_pp_signed, scale=0.1)
    with pytest.raises(AssertionError):
        check_constant_gradients(counted_once, oracle.grad_cam_pp_signed)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("part", [0, 1])
def test_a_detached_part_is_found(function: MapFunction, part: int) -> None:
    def fault(activations: Tensor, gradients: Tensor) -> Tensor:
        given = [activations, gradients]
        given[part] = given[part].detach()
        return function(*given)

    with pytest.raises(AssertionError):
        checks.check_gradients(fault)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_scale_taken_over_the_batch_is_found(function: MapFunction) -> None:
    def fault(activations: Tensor, gradients: Tensor) -> Tensor:
        maps = function(activations, gradients)
        return maps / maps.amax()

    with pytest.raises(AssertionError):
        checks.check_neighbours_do_not_matter(fault)
