"""Explaining a network does not change it, and works in every gradient mode."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distill.explain import Explainer
from distill.maps import normalize_maps
from distill.models import StagedNetwork, create_model
from tests.explain.networks import WRN_CUTS, hooks, same, state


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layer", WRN_CUTS)
@pytest.mark.parametrize("create_graph", [True, False])
def test_looking_changes_nothing(
    wrn: StagedNetwork, images: Tensor, labels: Tensor, training: bool, layer: str, create_graph: bool
) -> None:
    wrn.train(training)
    wrn.network.get_submodule("bn1").eval()
    for parameter in wrn.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    modes = [module.training for module in wrn.modules()]
    before, random_state = state(wrn), torch.get_rng_state()
    Explainer("grad_cam_pp", layer)(wrn, images, labels, create_graph=create_graph)
    assert hooks(wrn) == 0
    assert [module.training for module in wrn.modules()] == modes
    assert all(p.grad is not None and bool((p.grad == 3).all()) for p in wrn.parameters())
    assert all(p.requires_grad for p in wrn.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.is_grad_enabled()
    for name, tensor in wrn.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("layer", WRN_CUTS)
def test_explaining_a_pass_that_was_made_leaves_the_statistics(
    wrn: StagedNetwork, images: Tensor, labels: Tensor, layer: str
) -> None:
    wrn.train()
    output = wrn.run(images, [layer])
    assert int(wrn.get_buffer("network.bn1.num_batches_tracked")) == 1
    before = state(wrn)
    Explainer("grad_cam_pp", layer).from_output(output, labels, create_graph=True)
    for name, tensor in wrn.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("layer", WRN_CUTS)
def test_dropout_in_the_head_is_not_drawn_again(images: Tensor, labels: Tensor, layer: str) -> None:
    network = create_model("wrn_10_1", num_classes=3, dropout=0.5).double().train()
    output = network.run(images, [layer])
    random_state = torch.get_rng_state()
    explainer = Explainer("grad_cam_pp", layer)
    first = explainer.from_output(output, labels)
    assert torch.equal(torch.get_rng_state(), random_state)
    same(explainer.from_output(output, labels), first)
    assert float(first.amax()) > 0


def test_looking_draws_no_random_number(images: Tensor, labels: Tensor) -> None:
    network = create_model("wrn_10_1", num_classes=3, dropout=0.5).double().train()
    random_state, before = torch.get_rng_state(), state(network)
    network(images)
    assert not torch.equal(torch.get_rng_state(), random_state)
    torch.set_rng_state(random_state)
    network.load_state_dict(before)
    Explainer("grad_cam_pp", "group2")(network, images, labels)
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layer", WRN_CUTS)
def test_grad_modes(wrn: StagedNetwork, images: Tensor, labels: Tensor, training: bool, layer: str) -> None:
    wrn.train(training)
    explainer = Explainer("grad_cam_pp", layer)
    expected = explainer(wrn, images, labels).maps
    assert float(expected.amax()) > 0
    assert not expected.requires_grad
    with torch.no_grad():
        same(explainer(wrn, images, labels).maps, expected)
        made = wrn.run(images, [layer])
    same(explainer.from_output(made, labels), expected)
    with torch.inference_mode():
        same(explainer(wrn, images, labels).maps, expected)
        made = wrn.run(images, [layer])
        same(explainer.from_output(made, labels), expected)
    same(explainer.from_output(made, labels), expected)


@pytest.mark.parametrize("layer", WRN_CUTS)
def test_a_frozen_network_can_be_explained(wrn: StagedNetwork, images: Tensor, labels: Tensor, layer: str) -> None:
    expected = Explainer("grad_cam_pp", layer)(wrn, images, labels).maps
    for parameter in wrn.parameters():
        parameter.requires_grad_(False)
    found = Explainer("grad_cam_pp", layer)(wrn, images, labels)
    same(found.maps, expected)


@pytest.mark.parametrize("layer", WRN_CUTS)
def test_maps_are_differentiable_only_on_demand(wrn: StagedNetwork, images: Tensor, labels: Tensor, layer: str) -> None:
    output = wrn.run(images, [layer])
    explainer = Explainer("grad_cam_pp", layer)
    assert not explainer.from_output(output, labels).requires_grad
    made = explainer.from_output(output, labels, create_graph=True)
    assert made.requires_grad
    torch.testing.assert_close(made.detach(), explainer.from_output(output, labels), rtol=1e-12, atol=0)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layer", WRN_CUTS)
def test_mixed_precision(wrn32: StagedNetwork, images: Tensor, labels: Tensor, training: bool, layer: str) -> None:
    images = images.float()
    explainer = Explainer("grad_cam_pp", layer)
    expected = explainer.from_output(wrn32.train(training).run(images, [layer]), labels)
    with torch.autocast("cpu", torch.bfloat16):
        output = wrn32.run(images, [layer])
        maps = explainer.from_output(output, labels, create_graph=True)
    assert maps.dtype == torch.float32
    cosine = torch.cosine_similarity(maps.detach().flatten(1), expected.flatten(1))
    assert float(cosine.amin()) > 0.98
    parameters = list(wrn32.parameters())
    loss = normalize_maps(maps, "l2")[:, 0].sum()
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    assert all(bool(g.isfinite().all()) for g in gradients)
    assert float(gradients[0].norm()) > 1e-5
