"""Compare maps of custom networks with Captum and with the traced graph."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from distill.explain import Explainer, grad_cam_pp
from distill.models import as_staged, create_model
from distill.models.hooked import run_hooked
from tests.models.helpers import OwnNetwork
from tests.models.own_networks import (
    Around,
    Branching,
    Checkpointed,
    Noisy,
    Plain,
    Recorded,
    TwoInputs,
    made,
    pictures,
)

LABELS = torch.tensor([0, 1, 2, 1])
CASES: list[tuple[type[nn.Module], str]] = [
    (Plain, "stem"),
    (Plain, "stem.1"),
    (Plain, "inner"),
    (Plain, "mark"),
    (Branching, "stem"),
    (Branching, "inner"),
    (Branching, "mark"),
    (Around, "stem"),
    (Around, "inner"),
    (TwoInputs, "mark"),
    (Checkpointed, "stem"),
    (Checkpointed, "inner"),
    (Checkpointed, "mark"),
]
WAYS = {"plain": lambda net: net, "staged": as_staged, "untraced": lambda net: as_staged(net, trace=False)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("kind", "layer"), CASES)
def test_grad_cam_is_captums(kind: type[nn.Module], layer: str, way: str) -> None:
    network = made(kind)
    reference = LayerGradCam(network, network.get_submodule(layer))
    expected = reference.attribute(pictures(), target=LABELS, relu_attributions=True)[:, 0].detach()
    assert float(expected.amax()) > 1e-4
    found = Explainer("grad_cam", layer)(WAYS[way](network), pictures(), LABELS)
    torch.testing.assert_close(found.maps, expected, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(found.logits, network(pictures()).detach(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("kind", "layer"), CASES)
def test_gradients_of_parameters_are_captums(kind: type[nn.Module], layer: str, way: str) -> None:
    network = made(kind)
    parameters = list(network.parameters())
    reference = LayerGradCam(network, network.get_submodule(layer))
    keep = {"create_graph": True}
    theirs = reference.attribute(pictures(), target=LABELS, relu_attributions=True, grad_kwargs=keep)[:, 0]
    mine = Explainer("grad_cam", layer)(WAYS[way](network), pictures(), LABELS, create_graph=True).maps
    expected, found = (
        torch.autograd.grad(maps.square().sum(), parameters, allow_unused=True, materialize_grads=True)
        for maps in (theirs, mine)
    )
    assert float(expected[0].abs().amax()) > 0
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("layer", ["layer1", "layer3", "layer2.0.relu", "layer2.0.conv1"])
def test_a_network_of_torchvision_as_it_is(layer: str) -> None:
    staged = create_model("resnet18", num_classes=3).double().eval()
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    network = staged.network
    expected = Explainer("grad_cam_pp", layer)(network, images, LABELS[:2])
    found = Explainer("grad_cam_pp", layer)(as_staged(network), images, LABELS[:2])
    torch.testing.assert_close(found.maps, expected.maps, rtol=1e-9, atol=1e-14)
    if "." not in layer:
        same = Explainer("grad_cam_pp", layer)(staged, images, LABELS[:2]).maps
        torch.testing.assert_close(same, expected.maps, rtol=1e-9, atol=1e-14)
    assert float(expected.maps.amax()) > 0


def test_the_last_call_of_a_module_counts() -> None:
    network = made(Plain)
    seen: list[Tensor] = []
    handle = network.get_submodule("relu").register_forward_hook(lambda _m, _i, out: seen.append(out.clone()))
    network(pictures())
    handle.remove()
    assert [tuple(x.shape[1:]) for x in seen] == [(6, 8, 8), (8, 4, 4), (8, 4, 4)]
    for way in WAYS.values():
        net = way(network)
        run = net.run if net is not network else (lambda images, layers: run_hooked(network, images, layers))
        output = run(pictures(), ["relu"])
        torch.testing.assert_close(output.activations["relu"], seen[-1], rtol=0, atol=1e-14)
        assert int((output.activations["relu"] == 0).sum()) > 0
        maps = Explainer("grad_cam_pp", "relu")(net, pictures(), LABELS).maps
        gradients = network.get_parameter("fc.weight")[LABELS] / 16
        expected = grad_cam_pp(seen[-1], gradients.detach()[:, :, None, None])
        torch.testing.assert_close(maps, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("layer", ["stem", "inner", "mark", "relu"])
def test_in_training_a_second_pass_has_the_batch_statistics_as_constants(layer: str) -> None:
    network = made(Plain).train()
    traced, hooked = as_staged(network), as_staged(network, trace=False)
    maps = [Explainer("grad_cam_pp", layer)(net, pictures(), LABELS).maps for net in (traced, hooked, network)]
    assert float(maps[0].amax()) > 0
    for found in maps[1:]:
        torch.testing.assert_close(found, maps[0], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("training", [True, False])
def test_who_holds_what_is_overwritten_sees_it_change(training: bool) -> None:
    """The input of an in-place ReLU is added later: the sum uses the overwritten value."""
    network = OwnNetwork(3).double().train(training)
    maps = [
        Explainer("grad_cam_pp", "act")(net, pictures(), LABELS).maps
        for net in (as_staged(network), as_staged(network, trace=False), network)
    ]
    assert float(maps[0].amax()) > 0
    for found in maps[1:]:
        torch.testing.assert_close(found, maps[0], rtol=1e-9, atol=1e-14)


def test_in_training_the_gradients_are_those_of_the_traced_graph() -> None:
    network = made(Plain).train()
    results = []
    for trace in (True, False):
        net = copy.deepcopy(network)
        output = as_staged(net, trace=trace).run(pictures(), ["stem"])
        maps = Explainer("grad_cam_pp", "stem").from_output(output, LABELS, create_graph=True)
        loss = maps.square().sum() * 1e3 + nn.functional.cross_entropy(output.logits, LABELS)
        results.append(torch.autograd.grad(loss, list(net.parameters())))
        assert int(net.get_buffer("stem.1.num_batches_tracked")) == 1
    assert float(results[0][0].abs().amax()) > 1e-3
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("kind", [Plain, Branching, Around])
@pytest.mark.parametrize("layer", ["stem", "inner"])
def test_a_map_alone_is_its_map_in_a_batch(kind: type[nn.Module], layer: str) -> None:
    network = made(kind)
    explainer = Explainer("grad_cam_pp", layer)
    together = explainer(network, pictures(), LABELS).maps
    for n in range(4):
        alone = explainer(network, pictures()[n : n + 1], LABELS[n : n + 1]).maps
        torch.testing.assert_close(alone, together[n : n + 1], rtol=1e-10, atol=1e-15)


def test_a_network_that_always_normalises_by_the_batch_does_not_mix_samples() -> None:
    network = made(Plain)
    inner = network.get_submodule("inner.1")
    assert isinstance(inner, nn.BatchNorm2d)
    inner.running_mean = inner.running_var = None
    output = run_hooked(network, pictures(), ["stem"])
    assert "batch statistics" in str(output.heads["stem"].obstacle(output.activations["stem"]))
    found = Explainer("grad_cam", "stem").from_output(output, LABELS)
    expected = Explainer("grad_cam", "stem")(as_staged(network), pictures(), LABELS).maps
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-14)


def test_running_statistics_are_the_other_choice() -> None:
    network = made(Plain).train()
    traced, hooked = (
        Explainer("grad_cam", "stem", statistics="running")(as_staged(network, trace=trace), pictures(), LABELS).maps
        for trace in (True, False)
    )
    batch = Explainer("grad_cam", "stem")(network, pictures(), LABELS).maps
    assert float((batch - traced).abs().amax()) > 0.01 * float(batch.amax())
    torch.testing.assert_close(hooked, traced, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("trace", [True, False])
@pytest.mark.parametrize("form", ["positional", "named"])
def test_several_inputs(trace: bool, form: str) -> None:
    network = made(TwoInputs)
    gate = torch.rand(4, 8, dtype=torch.float64)
    inputs: Any = (pictures(), gate) if form == "positional" else {"images": pictures(), "gate": gate}
    found = Explainer("grad_cam", "mark")(as_staged(network, trace=trace), inputs, LABELS)
    torch.testing.assert_close(found.logits, network(pictures(), gate).detach())
    activations = run_hooked(network, pictures(), ["mark"]).activations["mark"]
    weights = network.get_parameter("fc.weight")[LABELS] * gate / 16
    expected = torch.einsum("nk,nkhw->nhw", weights, activations).relu().detach()
    torch.testing.assert_close(found.maps, expected, rtol=1e-10, atol=1e-14)


def test_a_record_with_logits() -> None:
    plain, recorded = made(Branching), made(Recorded)
    expected = Explainer("grad_cam", "inner")(plain, pictures(), LABELS)
    for net in (recorded, as_staged(recorded)):
        found = Explainer("grad_cam", "inner")(net, pictures(), LABELS)
        assert torch.equal(found.maps, expected.maps)
        assert torch.equal(found.logits, expected.logits)


def test_what_draws_random_numbers_is_explained_without() -> None:
    network = made(Noisy).train()
    first, second = (Explainer("grad_cam", "inner")(network, pictures(), LABELS).maps for _ in range(2))
    assert torch.equal(first, second)
    assert float(first.amax()) > 0


def test_other_activations_are_carried_on_to_their_logits() -> None:
    network = made(Branching)
    output = run_hooked(network, pictures(), ["inner"])
    head, activations = output.heads["inner"], output.activations["inner"]
    other = activations.detach() * 1.5
    torch.testing.assert_close(head(activations), output.logits, rtol=1e-12, atol=1e-14)
    expected = network.get_submodule("fc")(other.relu().mean((-2, -1)))
    kept = other.clone()
    torch.testing.assert_close(head(other), expected, rtol=1e-12, atol=1e-14)
    assert torch.equal(other, kept)
    assert "these activations are not those of the forward pass" in str(head.obstacle(other))
    how = Explainer("grad_cam_pp", "inner", gradients="autograd")(network, pictures(), LABELS).maps
    torch.testing.assert_close(how, Explainer("grad_cam_pp", "inner")(network, pictures(), LABELS).maps)


def test_a_changed_network_is_read_as_it_is_now() -> None:
    network = made(Plain)
    net = as_staged(network)
    net.run(pictures(), ["inner"])
    torch.manual_seed(9)
    network.fc = nn.Linear(8, 3).double().eval()
    expected = Explainer("grad_cam", "inner")(network, pictures(), LABELS)
    found = Explainer("grad_cam", "inner")(net, pictures(), LABELS)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.maps, expected.maps, rtol=1e-9, atol=1e-14)


def test_buffers_that_were_moved_are_read_anew() -> None:
    class Scaled(nn.Module):
        scale: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.plain = Plain()
            self.register_buffer("scale", torch.tensor(0.5))

        def forward(self, images: Tensor) -> Tensor:
            return self.plain(images * self.scale)

    network = Scaled().eval()
    net = as_staged(network)
    net.run(pictures(dtype=torch.float32), ["plain.inner"])
    network.double()
    network.scale = torch.tensor(2.0, dtype=torch.float64)
    torch.testing.assert_close(net.run(pictures(), ["plain.inner"]).logits, network(pictures()))
