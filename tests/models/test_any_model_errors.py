"""Error messages for invalid requests to custom networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from distill.explain import Explainer
from distill.models import as_staged
from tests.models.own_networks import Branching, Pair, Plain, Returns, made, pictures

LABELS = torch.tensor([0, 1, 2, 1])
WAYS = {"plain": lambda net: net, "staged": as_staged}
each_way = pytest.mark.parametrize("way", WAYS)


def hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def explain(network: nn.Module, layer: str, way: str) -> None:
    try:
        Explainer("grad_cam_pp", layer)(WAYS[way](network), pictures(), LABELS)
    finally:
        assert hooks(network) == 0


@each_way
@pytest.mark.parametrize(
    ("layer", "near"), [("iner", "'inner'"), ("stem.bn", "'stem'"), ("final", "'inner'"), ("", "'stem'")]
)
def test_a_layer_that_does_not_exist(layer: str, near: str, way: str) -> None:
    with pytest.raises(ValueError, match=rf"module of Plain, got {layer!r}; the closest are .*{near}.*named_modules"):
        explain(made(Plain), layer, way)


@each_way
def test_a_layer_that_is_never_called(way: str) -> None:
    with pytest.raises(ValueError, match="'unused' is not called in the forward pass of Returns"):
        explain(made(Returns), "unused", way)


@each_way
def test_a_layer_that_returns_several_tensors(way: str) -> None:
    with pytest.raises(ValueError, match="'pair' must return one floating-point tensor, but it returns tuple"):
        explain(made(Returns), "pair", way)


@each_way
def test_a_layer_that_the_logits_do_not_depend_on(way: str) -> None:
    with pytest.raises(ValueError, match="the logits do not depend on `layer` 'dead'"):
        explain(made(Returns), "dead", way)


@each_way
@pytest.mark.parametrize("kind", [Plain, Branching])
def test_a_layer_without_spatial_extent(kind: type[nn.Module], way: str) -> None:
    with pytest.raises(ValueError, match=r"no spatial axes\. Explain a layer before pooling or flattening"):
        explain(made(kind), "fc", way)


@each_way
def test_a_network_without_logits(way: str) -> None:
    with pytest.raises(ValueError, match=r"must return logits .* got tuple; wrap it"):
        explain(made(Pair), "left", way)


def test_a_block_is_what_it_returns_not_what_it_computed_last() -> None:
    network = made(Returns)
    block = network.get_submodule("first")
    for way in WAYS.values():
        output = as_staged(network, trace=way is as_staged).run(pictures(), ["first"])
        torch.testing.assert_close(output.activations["first"], block(pictures()))
        assert float(output.activations["first"].detach().amin()) == 0.0


def test_a_reentrant_checkpoint_is_named() -> None:
    class Old(Branching):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            out = checkpoint(super().forward, images, use_reentrant=True)
            assert isinstance(out, torch.Tensor)
            return out

    with pytest.raises(ValueError, match="use_reentrant=False"):
        explain(made(Old), "inner", "plain")


def test_an_error_in_the_network_leaves_no_hook() -> None:
    network = made(Branching)
    with pytest.raises(RuntimeError):
        Explainer("grad_cam", "inner")(network, pictures()[:, :2], LABELS)
    assert hooks(network) == 0
    network.train()
    modes = [m.training for m in network.modules()]
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with pytest.raises(IndexError):
        Explainer("grad_cam", "inner", target=lambda logits: logits[:, 7])(network, pictures())
    assert hooks(network) == 0
    assert [m.training for m in network.modules()] == modes
    assert all(torch.equal(buffers[name], buffer) for name, buffer in network.named_buffers())
