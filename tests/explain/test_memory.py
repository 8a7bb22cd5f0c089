"""Computing two thousand maps does not leak memory."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from distill.explain import Explainer
from distill.models import as_staged
from tests.explain.steps import make_step, teacher_maps, tiny_network
from tests.models.own_networks import Branching, Tiny, made, pictures
from tests.models.test_any_model_errors import hooks

LABELS = torch.tensor([0, 1, 2, 1])
MAPS = 2000
PAGE = 4096


def alive() -> int:
    """Return the number of tensors in memory."""
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


def resident() -> int:
    """Return the resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def explaining(kind: str) -> tuple[nn.Module, Callable[[], object]]:
    """Return a network and a function that computes four maps of it."""
    images = pictures()
    if kind == "staged":
        staged = tiny_network().eval()
        return staged, lambda: Explainer("grad_cam_pp", "relu1")(staged, images, LABELS)
    if kind == "autograd":
        staged = tiny_network().eval()
        return staged, lambda: Explainer("grad_cam_pp", "relu1", gradients="autograd")(staged, images, LABELS)
    network = made(Branching if kind == "untraceable" else Tiny)
    layer = "inner" if kind == "untraceable" else "relu1"
    if kind == "training":
        network.train()
    if kind == "step":
        net = as_staged(network, trace=False)
        maps = teacher_maps(net, layer, images)
        step = make_step(net, layer)
        return network, lambda: torch.autograd.grad(step(images, LABELS, maps), list(network.parameters()))
    return network, lambda: Explainer("grad_cam_pp", layer)(network, images, LABELS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["staged", "autograd", "untraceable", "training", "step"])
def test_two_thousand_maps_hold_memory_constant(kind: str) -> None:
    network, explain = explaining(kind)
    for _ in range(50):
        explain()
    tensors, memory = alive(), resident()
    for _ in range(MAPS // 4):
        explain()
    assert alive() == tensors
    # One tensor kept of each call would be 2 kB x 500; the allocator's own noise is less than what a graph a call is.
    assert resident() - memory < 8 * 2**20
    assert hooks(network) == 0


def test_a_pass_is_freed_without_the_garbage_collector() -> None:
    network, explain = explaining("untraceable")
    explain()
    before = alive()
    gc.disable()
    try:
        for _ in range(5):
            explain()
        after = sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())
    finally:
        gc.enable()
    assert after == before
    assert hooks(network) == 0


def test_a_leak_would_be_seen() -> None:
    kept = []
    before = alive()
    network, explain = explaining("untraceable")
    own = alive()
    kept.append(explain())
    assert alive() > own >= before
    assert len(list(network.parameters())) == own - before - 1 - len(list(network.buffers()))
