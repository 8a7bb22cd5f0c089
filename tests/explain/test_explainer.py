"""Compare the explainer with Captum, with nested derivatives and with its closed form."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor

from distill.explain import METHODS, Explainer
from distill.models import StagedNetwork
from distill.types import Head
from tests.explain.networks import WRN_CUTS, cut_module
from tests.oracles import nested

RESNET_CUTS = ("layer1", "layer2", "layer3", "final")


def logit(head: Head, label: int, activations: Tensor) -> Tensor:
    return head(activations)[0, label]


@pytest.mark.parametrize("layer", WRN_CUTS)
def test_grad_cam_is_captums(wrn: StagedNetwork, images: Tensor, labels: Tensor, layer: str) -> None:
    reference = LayerGradCam(wrn, cut_module(wrn, layer))
    expected = reference.attribute(images, target=labels, relu_attributions=True)[:, 0].detach()
    assert float(expected.amax()) > 0
    found = Explainer("grad_cam", layer)(wrn, images, labels)
    torch.testing.assert_close(found.maps, expected, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(found.logits, wrn(images).detach(), rtol=1e-12, atol=1e-13)
    assert found.target.tolist() == labels.tolist()


@pytest.mark.parametrize("layer", RESNET_CUTS)
def test_grad_cam_of_a_resnet_is_captums(resnet: StagedNetwork, images: Tensor, labels: Tensor, layer: str) -> None:
    larger = torch.nn.functional.interpolate(images[:2], size=32)
    assert layer in resnet.cuts
    reference = LayerGradCam(resnet, cut_module(resnet, layer))
    expected = reference.attribute(larger, target=labels[:2], relu_attributions=True)[:, 0].detach()
    assert float(expected.amax()) > 0
    found = Explainer("grad_cam", layer)(resnet, larger, labels[:2]).maps
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("layer", WRN_CUTS)
def test_parameter_gradients_of_grad_cam_are_captums(
    wrn: StagedNetwork, images: Tensor, labels: Tensor, layer: str
) -> None:
    reference = LayerGradCam(wrn, cut_module(wrn, layer))
    theirs = reference.attribute(images, target=labels, relu_attributions=True, grad_kwargs={"create_graph": True})[
        :, 0
    ]
    mine = Explainer("grad_cam", layer)(wrn, images, labels, create_graph=True).maps
    weights = torch.rand(mine.shape, dtype=mine.dtype)
    parameters = list(wrn.parameters())
    expected = torch.autograd.grad((theirs * weights).sum(), parameters, allow_unused=True, materialize_grads=True)
    found = torch.autograd.grad((mine * weights).sum(), parameters, allow_unused=True, materialize_grads=True)
    assert sum(float(g.abs().amax()) > 0 for g in expected) > len(parameters) // 2
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


def test_grad_cam_pp_at_an_inner_layer_is_the_nested_derivative(wrn: StagedNetwork, images: Tensor) -> None:
    target = torch.tensor([2, 1])
    output = wrn.run(images[:2], ["group2"])
    head = output.heads["group2"]
    found = Explainer("grad_cam_pp", "group2").from_output(output, target)
    for parameter in wrn.parameters():
        parameter.requires_grad_(False)
    for n in range(2):
        score = partial(logit, head, int(target[n]))
        expected = nested.grad_cam_pp(score, output.activations["group2"][n : n + 1])
        assert expected.max() > 0
        torch.testing.assert_close(found[n], torch.from_numpy(expected), rtol=1e-9, atol=1e-9 * expected.max())


@pytest.mark.parametrize("method", [m for m in METHODS if m != "cam"])
def test_the_closed_form_is_automatic_differentiation(
    wrn32: StagedNetwork, images: Tensor, labels: Tensor, method: str
) -> None:
    maps = {
        how: Explainer(method, "final", gradients=how)(wrn32, images.float(), labels).maps
        for how in ("closed_form", "autograd", "auto")
    }
    size = float(maps["autograd"].amax())
    assert size > 0
    torch.testing.assert_close(maps["closed_form"], maps["autograd"], rtol=1e-6, atol=1e-6 * size)
    torch.testing.assert_close(maps["auto"], maps["closed_form"], rtol=1e-6, atol=1e-6 * size)


@pytest.mark.parametrize("name", ["wrn", "resnet"])
def test_the_gradients_of_both_ways_are_equal(
    request: pytest.FixtureRequest, name: str, images: Tensor, labels: Tensor
) -> None:
    network: StagedNetwork = request.getfixturevalue(name)
    images = torch.nn.functional.interpolate(images[:2], size=32)
    parameters = list(network.parameters())
    found = []
    for how in ("closed_form", "autograd"):
        explainer = Explainer("grad_cam_pp", "final", gradients=how)
        maps = explainer(network, images, labels[:2], create_graph=True).maps
        loss = maps.square().sum()
        found.append(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))
    assert sum(float(g.norm()) for g in found[1]) > 1e-3
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


def test_the_closed_form_is_refused_at_an_inner_layer(wrn: StagedNetwork, images: Tensor, labels: Tensor) -> None:
    with pytest.raises(ValueError, match="closed_form"):
        Explainer("grad_cam", "group2", gradients="closed_form")(wrn, images, labels)


def test_cam_is_grad_cam_times_the_sites(wrn: StagedNetwork, images: Tensor, labels: Tensor) -> None:
    maps = Explainer("cam", "final")(wrn, images, labels).maps
    assert maps.shape == (4, 2, 2)
    torch.testing.assert_close(maps, 4 * Explainer("grad_cam", "final")(wrn, images, labels).maps)
    with pytest.raises(ValueError, match="cam"):
        Explainer("cam", "group2")(wrn, images, labels)
