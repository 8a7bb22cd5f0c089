"""Compare the gradient of the explanation term with finite differences, for each parameter.

The gradient at an inner layer is discontinuous where a ReLU changes between active and inactive. So every ReLU mask is
recorded, and a comparison in which a mask changes fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from distill.explain import Explainer
from distill.losses import explanation_loss
from distill.models import StagedNetwork
from distill.types import StagedOutput

Explain = Callable[[StagedOutput, str, Tensor], Tensor]

STEP = 1e-7


class Masks(TorchDispatchMode):
    """Record the mask of every ReLU call."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten.relu.default, torch.ops.aten.relu_.default):
            self.seen.append(result.detach() > 0)
        return result


def grad_cam_pp(output: StagedOutput, layer: str, target: Tensor) -> Tensor:
    """Compute the map as in training."""
    return Explainer("grad_cam_pp", layer).from_output(output, target, create_graph=True)


class Term:
    """The explanation term of two images as a function of the network's parameters, with fixed batch statistics."""

    def __init__(self, explain: Explain, network: StagedNetwork, layer: str, images: Tensor, target: Tensor) -> None:
        self.explain, self.network, self.layer = explain, network, layer
        self.images, self.target = images, target
        output = network.run(images, [layer])
        self.head = output.heads[layer]
        self.head(output.activations[layer])  # its statistics are taken here, before any parameter moves
        shape = output.activations[layer].shape
        generator = torch.Generator().manual_seed(11)
        self.teacher = torch.rand(shape[0], *shape[2:], dtype=images.dtype, generator=generator)

    def __call__(self) -> Tensor:
        """Compute the term with the current parameters."""
        output = self.network.run(self.images, [self.layer])
        fixed = StagedOutput(output.logits, output.activations, {self.layer: self.head})
        maps = self.explain(fixed, self.layer, self.target)
        assert float(maps.detach().flatten(1).amax(1).amin()) > 0
        return explanation_loss(maps, self.teacher, normalize="l2", distance="squared_error")

    def with_masks(self) -> tuple[float, list[Tensor]]:
        """Compute the term and the mask of every ReLU call."""
        masks = Masks()
        with masks:
            value = float(self().detach())
        return value, masks.seen


@contextmanager
def moved(parameters: list[Tensor], directions: list[Tensor], step: float) -> Iterator[None]:
    """Move parameters along directions inside the context."""
    before = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter, direction in zip(parameters, directions, strict=True):
            parameter.add_(direction, alpha=step)
    yield
    with torch.no_grad():
        for parameter, values in zip(parameters, before, strict=True):
            parameter.copy_(values)


def slope(term: Term, parameters: list[Tensor], directions: list[Tensor]) -> float:
    """Return the central difference of the term along a direction; all ReLU masks must stay the same."""
    values = []
    sides = term.with_masks()[1]
    assert len(sides) >= 6
    for step in (STEP, -STEP):
        with moved(parameters, directions, step):
            value, found = term.with_masks()
        assert len(found) == len(sides)
        assert all(torch.equal(a, b) for a, b in zip(found, sides, strict=True)), "a ReLU changed sides"
        values.append(value)
    return (values[0] - values[1]) / (2 * STEP)


def check_gradients_reach(term: Term, *, zero: set[str]) -> None:
    """Check that each gradient equals the finite difference, and is exactly zero only for the named parameters."""
    names, parameters = zip(*term.network.named_parameters(), strict=True)
    loss = term()
    assert loss.requires_grad
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    assert {name for name, g in zip(names, gradients, strict=True) if not bool(g.any())} == zero
    generator = torch.Generator().manual_seed(12)
    for name, parameter, gradient in zip(names, parameters, gradients, strict=True):
        noise = torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator)
        # half along the gradient, so that the slope is never small by chance
        direction = noise / noise.norm() + gradient / gradient.norm().clamp(min=1e-300)
        expected = slope(term, [parameter], [direction])
        found = float((gradient * direction).sum())
        assert found == pytest.approx(expected, rel=1e-5, abs=2e-8), name
        if name in zero:
            assert expected == 0.0, name
        else:
            assert abs(expected) > 1e-6, name
