"""Compare the linear backward with autograd: the gradients, and their derivatives for every parameter."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from distill.explain import Explainer, Score, score_gradients
from distill.models import StagedNetwork
from distill.types import StagedOutput
from tests.explain.heads import CASES, make

CUTS = [(name, layer) for name, case in CASES.items() for layer in case.layers]


def log_probability(logits: Tensor) -> Tensor:
    return logits.log_softmax(1)[:, 1]


def entropy(logits: Tensor) -> Tensor:
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def scores(samples: int) -> dict[str, Score]:
    """Return one score of each kind."""
    return {
        "classes": torch.arange(samples) % 3,
        "weights": torch.rand(samples, 3, dtype=torch.float64) - 0.5,
        "log_probability": log_probability,
        "entropy": entropy,
    }


def effect(gradients: Tensor, network: StagedNetwork) -> list[Tensor]:
    """Return the derivatives of a random, nonlinear function of the gradients for every parameter."""
    generator = torch.Generator().manual_seed(8)
    size = float(gradients.detach().abs().mean())
    weights = torch.rand(gradients.shape, dtype=gradients.dtype, generator=generator)
    value = (weights * gradients / size).sum() + (gradients / size).square().mean()
    # retained, since scores of one pass share the graph of the trunk
    parameters = list(network.parameters())
    return list(torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True, materialize_grads=True))


def check_equals_autograd(output: StagedOutput, layer: str, network: StagedNetwork, score: Score, *, how: str) -> None:
    """Check gradients and their derivatives for every parameter against autograd, to 1e-9 of the largest value."""
    head, activations = output.heads[layer], output.activations[layer]
    expected = score_gradients(head, activations, score, create_graph=True, how="autograd")
    found = score_gradients(head, activations, score, create_graph=True, how=how)  # type: ignore[arg-type]
    found = found.expand_as(expected)
    size = float(expected.detach().abs().amax())
    assert size > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * size)
    reached = 0
    for a, b in zip(effect(found, network), effect(expected, network), strict=True):
        largest = float(b.abs().amax())
        reached += largest > 0
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9 * max(largest, 1e-3))
    assert reached >= 1


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("name", "layer"), CUTS)
def test_the_linear_backward_is_autograd(name: str, layer: str, training: bool) -> None:
    network, images = make(name, training=training)
    output = network.run(images, [layer])
    for score in scores(len(images)).values():
        check_equals_autograd(output, layer, network, score, how="linear")


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", [name for name in CASES if name not in ("vgg", "functions", "mobile")])
def test_the_closed_form_is_autograd(name: str, training: bool) -> None:
    network, images = make(name, training=training)
    layer = CASES[name].layers[0]
    output = network.run(images, [layer])
    for score in scores(len(images)).values():
        check_equals_autograd(output, layer, network, score, how="closed_form")


def test_the_cases_are_not_trivial() -> None:
    """ReLUs are active and inactive, and the largest value of a pooling window is not always the first."""
    network, images = make("vgg", training=False)
    output = network.run(images, ["4", "6", "10", "16"])
    for layer in ("4", "6", "10", "16"):
        share = float((output.activations[layer] > 0).double().mean())
        assert 0.05 < share < 0.95, layer
    assert output.activations["10"].shape == (3, 6, 3, 4)


def test_activation_functions_are_in_all_their_ranges() -> None:
    network, images = make("mobile", training=True)
    values = network.run(images, ["4", "5"]).activations
    assert bool((values["4"] == 6).any())
    assert bool(((values["4"] > 0) & (values["4"] < 6)).any())
    assert bool(((values["5"] > -3) & (values["5"] < 0)).any())


@pytest.mark.parametrize("kind", scores(1))
def test_dropout_whose_result_no_rule_reads_is_left_out(kind: str) -> None:
    network, images = make("mobile", training=True)
    dropout = network.network.get_submodule("11")
    assert isinstance(dropout, nn.Dropout)
    dropout.p = 0.5
    output = network.run(images, ["6"])
    assert not torch.allclose(output.heads["6"].logits, output.heads["6"](output.activations["6"]))
    head, activations, score = output.heads["6"], output.activations["6"], scores(len(images))[kind]
    check_equals_autograd(output, "6", network, score, how="linear")
    found = score_gradients(head, activations, score, create_graph=False, how="linear")
    expected = score_gradients(head, activations, score, create_graph=False, how="autograd")
    torch.testing.assert_close(found.expand_as(expected), expected)


def test_gradients_that_are_the_same_at_every_site_are_computed_once() -> None:
    network, images = make("mobile", training=False)
    output = network.run(images, ["6"])
    gradients = score_gradients(output.heads["6"], output.activations["6"], torch.arange(4) % 3, create_graph=False)
    assert gradients.shape == (4, 8, 1, 1)


@pytest.mark.parametrize("training", [False, True])
def test_the_pass_is_left_as_it_was(training: bool) -> None:
    network, images = make("resnet18", training=training)
    output = network.run(images, ["layer2"])
    before = output.activations["layer2"].detach().clone()
    score_gradients(output.heads["layer2"], output.activations["layer2"], torch.tensor([0, 1]), create_graph=False)
    assert torch.equal(output.activations["layer2"], before)


@pytest.mark.parametrize("name", ["vgg", "wrn"])
def test_parameter_gradients_of_grad_cam_are_captums(name: str) -> None:
    network, images = make(name, training=False)
    labels = torch.arange(len(images)) % 3
    for layer in CASES[name].layers[1:]:
        reference = LayerGradCam(network, network.network.get_submodule(layer))
        theirs = reference.attribute(images, target=labels, relu_attributions=True, grad_kwargs={"create_graph": True})[
            :, 0
        ]
        mine = Explainer("grad_cam", layer, gradients="linear")(network, images, labels, create_graph=True).maps
        assert float(theirs.detach().amax()) > 0
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9 * float(theirs.detach().amax()))
        expected, found = effect(theirs, network), effect(mine, network)
        assert sum(bool(g.any()) for g in expected) > len(expected) // 3
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-9 * max(float(b.abs().amax()), 1e-3))


@pytest.mark.parametrize("layer", ["block2.layer.0.relu1", "block3.layer.0.relu1", "relu"])
def test_under_bfloat16_it_is_near_float32(layer: str) -> None:
    network, images = make("wrn", training=False)
    network, images, labels = network.float(), images.float(), torch.tensor([0, 1, 2, 0])
    expected = Explainer("grad_cam_pp", layer)(network, images, labels).maps
    with torch.autocast("cpu", torch.bfloat16):
        output = network.run(images, [layer])
        assert output.activations[layer].dtype == torch.bfloat16
        gradients = score_gradients(output.heads[layer], output.activations[layer], labels, create_graph=True)
        found = Explainer("grad_cam_pp", layer).from_output(output, labels)
    assert gradients.dtype in (torch.bfloat16, torch.float32)
    assert found.dtype == torch.float32
    cosine = torch.cosine_similarity(found.flatten(1), expected.flatten(1))
    assert float(cosine.amin()) >= 0.999
    assert not torch.equal(found, expected)
