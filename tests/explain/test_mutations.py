"""Planted faults: each must fail a check that the package passes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distill.explain import grad_cam, grad_cam_pp, positive_grad_cam
from tests.explain import checks
from tests.explain.checks import MapFunction
from tests.oracles import cam as oracle


def alpha_map(activations: Tensor, alpha: Tensor, gradients: Tensor) -> Tensor:
    """relu(sum_k A_k sum(alpha g)), the map of all faults."""
    weights = (alpha * gradients).flatten(2).sum(2)
    return torch.einsum("nk,nk...->n...", weights, activations).relu()


def totals(activations: Tensor) -> Tensor:
    axes = tuple(range(2, activations.ndim))
    return activations.sum(axes, keepdim=True)


def ours(activations: Tensor, gradients: Tensor) -> Tensor:
    return alpha_map(activations, 1 / (2 + gradients.relu() * totals(activations)), gradients.relu())


def cube_inside_the_sum(activations: Tensor, gradients: Tensor) -> Tensor:
    square, cube = gradients**2, totals(activations * gradients**3)
    alpha = torch.where(gradients == 0, 0, square / (2 * square + cube))
    return alpha_map(activations, alpha, gradients.relu())


def division_lost(activations: Tensor, gradients: Tensor) -> Tensor:
    return alpha_map(activations, gradients.relu() ** 2, gradients.relu())


def sum_over_channels(activations: Tensor, gradients: Tensor) -> Tensor:
    total = totals(activations).sum(1, keepdim=True)
    return alpha_map(activations, 1 / (2 + gradients.relu() * total), gradients.relu())


def mean_of_activations(activations: Tensor, gradients: Tensor) -> Tensor:
    mean = totals(activations) / activations[0, 0].numel()
    return alpha_map(activations, 1 / (2 + gradients.relu() * mean), gradients.relu())


def epsilon_in_the_denominator(activations: Tensor, gradients: Tensor) -> Tensor:
    square, cube = gradients**2, gradients**3
    return alpha_map(activations, square / (2 * square + totals(activations) * cube + 1e-6), gradients.relu())


def no_relu_on_gradients(activations: Tensor, gradients: Tensor) -> Tensor:
    square, cube = gradients**2, gradients**3
    alpha = torch.where(gradients == 0, 0, square / (2 * square + totals(activations) * cube))
    return alpha_map(activations, alpha, gradients)


def no_alpha(activations: Tensor, gradients: Tensor) -> Tensor:
    return alpha_map(activations, torch.ones_like(gradients), gradients.relu())


def weights_on_gradients(activations: Tensor, gradients: Tensor) -> Tensor:
    weights = (gradients.relu() / (2 + gradients.relu() * totals(activations))).flatten(2).sum(2)
    return torch.einsum("nk,nk...->n...", weights, gradients).relu()


def mean_over_sites(activations: Tensor, gradients: Tensor) -> Tensor:
    return ours(activations, gradients) / activations[0, 0].numel()


def test_a_right_variant_passes() -> None:
    checks.check_matches_oracle(ours, oracle.grad_cam_pp)
    checks.check_gradients(ours)
    checks.check_neighbours_do_not_matter(ours)


@pytest.mark.parametrize(
    "fault",
    [
        cube_inside_the_sum,
        division_lost,
        sum_over_channels,
        mean_of_activations,
        epsilon_in_the_denominator,
        no_relu_on_gradients,
        no_alpha,
        weights_on_gradients,
        mean_over_sites,
        grad_cam,
        positive_grad_cam,
    ],
)
def test_wrong_weights_of_grad_cam_pp_are_found(fault: MapFunction) -> None:
    with pytest.raises(AssertionError):
        checks.check_matches_oracle(fault, oracle.grad_cam_pp)


@pytest.mark.parametrize("fault", [cube_inside_the_sum, mean_of_activations])
def test_below_pooling_these_faults_would_not_be_seen(fault: MapFunction) -> None:
    activations, _ = checks.inner_layer(3, 5, 3, 4)
    gradients = torch.rand(3, 5, 1, 1, dtype=torch.float64).expand(3, 5, 3, 4)
    cosine = torch.cosine_similarity(
        fault(activations, gradients).flatten(1), grad_cam_pp(activations, gradients).flatten(1)
    )
    assert float(cosine.amin()) > 0.98


def test_a_lost_relu_on_the_map_is_found() -> None:
    def fault(activations: Tensor, gradients: Tensor) -> Tensor:
        return torch.einsum("nk,nk...->n...", gradients.flatten(2).mean(2), activations)

    for check in (checks.check_matches_oracle, checks.check_map_is_clipped):
        with pytest.raises(AssertionError):
            check(fault, oracle.grad_cam)


def test_a_sum_in_the_place_of_a_mean_is_found() -> None:
    def fault(activations: Tensor, gradients: Tensor) -> Tensor:
        return grad_cam(activations, gradients) * activations[0, 0].numel()

    with pytest.raises(AssertionError):
        checks.check_matches_oracle(fault, oracle.grad_cam)


def test_a_lost_relu_on_positive_gradients_is_found() -> None:
    def fault(activations: Tensor, gradients: Tensor) -> Tensor:
        return alpha_map(activations, torch.ones_like(gradients), gradients)

    with pytest.raises(AssertionError):
        checks.check_matches_oracle(fault, oracle.positive_grad_cam)


@pytest.mark.parametrize("function", [grad_cam, positive_grad_cam, grad_cam_pp])
@pytest.mark.parametrize("detach_activations", [True, False])
def test_a_detached_part_is_found(function: MapFunction, detach_activations: bool) -> None:
    def fault(activations: Tensor, gradients: Tensor) -> Tensor:
        if detach_activations:
            return function(activations.detach(), gradients)
        return function(activations, gradients.detach())

    with pytest.raises(AssertionError):
        checks.check_gradients(fault)


def test_a_detached_alpha_is_found() -> None:
    def fault(activations: Tensor, gradients: Tensor) -> Tensor:
        alpha = 1 / (2 + gradients.relu() * totals(activations))
        return alpha_map(activations, alpha.detach(), gradients.relu())

    checks.check_matches_oracle(fault, oracle.grad_cam_pp)
    with pytest.raises(AssertionError):
        checks.check_gradients(fault)


@pytest.mark.parametrize("function", [grad_cam, positive_grad_cam, grad_cam_pp])
def test_a_scale_taken_over_the_batch_is_found(function: MapFunction) -> None:
    def min_max(activations: Tensor, gradients: Tensor) -> Tensor:
        maps = function(activations, gradients)
        return (maps - maps.amin()) / (maps.amax() - maps.amin())

    with pytest.raises(AssertionError):
        checks.check_neighbours_do_not_matter(min_max)


def test_a_total_taken_over_the_batch_is_found() -> None:
    def fault(activations: Tensor, gradients: Tensor) -> Tensor:
        total = totals(activations).sum(0, keepdim=True)
        return alpha_map(activations, 1 / (2 + gradients.relu() * total), gradients.relu())

    with pytest.raises(AssertionError):
        checks.check_neighbours_do_not_matter(fault)
