"""Checks of map functions. Tests apply them to the package, and to planted faults that must fail."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from distill.explain import grad_cam, grad_cam_pp, positive_grad_cam
from tests.oracles import cam as oracle

MapFunction = Callable[[Tensor, Tensor], Tensor]
OracleFunction = Callable[[oracle.Array, oracle.Array], oracle.Array]

PAIRS: list[tuple[MapFunction, OracleFunction]] = [
    (grad_cam, oracle.grad_cam),
    (positive_grad_cam, oracle.positive_grad_cam),
    (grad_cam_pp, oracle.grad_cam_pp),
]
FUNCTIONS = [pair[0] for pair in PAIRS]
RANKS = [(3, 4, 6), (3, 5, 3, 4), (2, 3, 2, 3, 2)]


def inner_layer(*shape: int, scale: float = 1.0, seed: int = 4) -> tuple[Tensor, Tensor]:
    """Random activations and gradients like those of an inner post-ReLU layer: both vary over the sites.

    About half of the activations and a fifth of the gradients are 0; a third of the gradients is negative.
    """
    generator = torch.Generator().manual_seed(seed)
    activations = torch.randn(*shape, dtype=torch.float64, generator=generator).relu()
    gradients = torch.randn(*shape, dtype=torch.float64, generator=generator) + 0.2
    gradients[torch.rand(*shape, generator=generator) < 0.2] = 0.0
    return activations, gradients * scale


def smooth_point(*shape: int) -> tuple[Tensor, Tensor]:
    """Inputs at which all maps are differentiable: no activation, gradient or map is near 0."""
    generator = torch.Generator().manual_seed(5)
    activations = torch.rand(*shape, dtype=torch.float64, generator=generator) + 0.2
    gradients = torch.rand(*shape, dtype=torch.float64, generator=generator) + 0.2
    gradients.view(shape[0], shape[1], -1)[:, 1:, 0] *= -0.5
    weighted = torch.einsum("nk,nks->ns", gradients.flatten(2).mean(2), activations.flatten(2))
    assert bool(weighted.abs().amin() > 1e-2)
    return activations, gradients


def check_matches_oracle(function: MapFunction, reference: OracleFunction, *, scale: float = 1.0) -> None:
    """Compare with the NumPy loops, to 1e-10 of the largest value, for inner layers with one, two and three axes."""
    for shape in RANKS:
        activations, gradients = inner_layer(*shape, scale=scale)
        expected = torch.from_numpy(reference(activations.numpy(), gradients.numpy()))
        assert float(expected.amax()) > 0
        assert int((expected == 0).sum()) < expected.numel()
        found = function(activations, gradients)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10 * float(expected.amax()))


def check_map_is_clipped(function: MapFunction, reference: OracleFunction) -> None:
    """Compare with the NumPy loops where most of the weighted sum is negative."""
    activations, gradients = inner_layer(3, 5, 3, 4)
    gradients = gradients - 0.3
    expected = torch.from_numpy(reference(activations.numpy(), gradients.numpy()))
    assert int((expected == 0).sum()) >= expected.numel() // 4
    torch.testing.assert_close(function(activations, gradients), expected, rtol=0, atol=1e-10)


def check_gradients(function: MapFunction) -> None:
    """Compare first and second derivatives with finite differences."""
    for shape in [(2, 3, 4), (2, 3, 2, 2), (1, 2, 2, 1, 2)]:
        activations, gradients = (x.requires_grad_() for x in smooth_point(*shape))
        for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
            assert check(function, (activations, gradients), raise_exception=False)


def check_neighbours_do_not_matter(function: MapFunction) -> None:
    """Check that a map is the same alone, in a batch and in another order, for neighbours of any scale."""
    activations, gradients = inner_layer(4, 5, 3, 4)
    factors = torch.tensor([1.0, 10.0, 0.1, 3.0], dtype=torch.float64).view(4, 1, 1, 1)
    activations = activations * factors
    together = function(activations, gradients)
    for n in range(4):
        alone = function(activations[n : n + 1], gradients[n : n + 1])
        torch.testing.assert_close(alone, together[n : n + 1], rtol=1e-12, atol=1e-14)
    order = torch.tensor([3, 1, 0, 2])
    found = function(activations[order], gradients[order])
    torch.testing.assert_close(found, together[order], rtol=1e-12, atol=1e-14)
