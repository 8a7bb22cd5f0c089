"""Custom networks with the interface of `StagedNetwork`."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from distill.models import StagedNetwork, create_model
from tests.models.helpers import OwnNetwork, lively

OWN, FUNCTIONAL = "tests.models.helpers:OwnNetwork", "tests.models.helpers:FunctionalNetwork"
LAYERS = ("stem", "act", "inner", "last")
IMAGES = torch.rand(3, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def own() -> StagedNetwork:
    return lively(OWN).eval()


def by_hand(net: StagedNetwork, images: Tensor) -> dict[str, Tensor]:
    """Return the values of the same network computed without in-place operations."""
    network = net.network
    assert isinstance(network, OwnNetwork)
    stem = network.stem((images - net.normalise.mean) / net.normalise.std)
    act = stem.relu()
    inner = network.inner(act)
    last = (2 * (inner + act)).relu()  # in place: what is added is the stem's output after the ReLU
    return {"stem": stem, "act": act, "inner": inner, "last": last, "logits": network.fc(last.mean((-2, -1)))}


def test_what_follows_in_place_does_not_overwrite_what_is_read(own: StagedNetwork) -> None:
    expected = by_hand(own, IMAGES)
    torch.testing.assert_close(own(IMAGES), expected["logits"])
    output = own.run(IMAGES, list(LAYERS))
    torch.testing.assert_close(output.logits, expected["logits"])
    for layer in LAYERS:
        torch.testing.assert_close(output.activations[layer], expected[layer], atol=1e-12, rtol=0, msg=layer)


def test_reading_leaves_the_users_network_as_it_is(own: StagedNetwork) -> None:
    own.run(IMAGES, ["act"])
    assert isinstance(own.network, OwnNetwork)
    assert (own.network.act.inplace, own.network.last.inplace) == (True, True)


def test_final_is_found(own: StagedNetwork) -> None:
    assert own.cuts == {"final": "last"}
    output = own.run(IMAGES, ["final"])
    assert output.heads["final"].classifier is own.network.fc
    torch.testing.assert_close(output.activations["final"], by_hand(own, IMAGES)["last"])


@pytest.mark.parametrize("layer", ["stem", "act", "last"])
def test_a_dotted_layer_can_be_cut(own: StagedNetwork, layer: str) -> None:
    output = own.run(IMAGES, [layer])
    activations = output.activations[layer].detach().requires_grad_()
    before = activations.detach().clone()
    torch.testing.assert_close(output.heads[layer](activations), output.logits, atol=1e-9, rtol=0)
    assert torch.equal(activations, before)


@pytest.mark.parametrize("layer", ["inner", "inner.0"])
def test_a_layer_with_a_way_around_it_is_no_cut(own: StagedNetwork, layer: str) -> None:
    output = own.run(IMAGES, [layer])
    assert output.heads == {}
    assert output.activations[layer].shape == (3, 6, 6, 6)


def test_training_is_exact_as_well(own: StagedNetwork) -> None:
    own.train()
    expected = by_hand(copy.deepcopy(own), IMAGES)
    output = own.run(IMAGES, ["act", "last"])
    torch.testing.assert_close(output.logits, expected["logits"])
    for layer, head in output.heads.items():
        torch.testing.assert_close(head(output.activations[layer]), output.logits, atol=1e-9, rtol=0)


def test_a_hidden_layer_above_the_pooling_has_no_closed_form() -> None:
    net = lively(FUNCTIONAL).eval()
    assert net.cuts == {"final": "relu"}
    assert net.run(IMAGES, ["final"]).heads["final"].classifier is None
    output = net.run(IMAGES, ["conv", "hidden"])
    assert tuple(output.heads) == ("conv", "hidden")
    assert output.heads["conv"].classifier is None
    for layer, head in output.heads.items():
        torch.testing.assert_close(head(output.activations[layer]), output.logits, atol=1e-9, rtol=0)
    assert output.activations["conv"].min() < 0  # before the ReLU that would overwrite it


def test_only_what_a_callable_accepts_is_handed_to_it() -> None:
    assert create_model(OWN, num_classes=4, in_channels=1)(torch.rand(1, 1, 8, 8)).shape == (1, 4)
    assert create_model(FUNCTIONAL, num_classes=4, in_channels=3)(torch.rand(1, 3, 8, 8)).shape == (1, 4)


@pytest.mark.parametrize(("layer", "lowest"), [("bn1", -0.1), ("relu", 0.0)])
def test_a_resnets_values_before_its_in_place_relu_can_be_read(layer: str, lowest: float) -> None:
    net = lively("resnet18", small_images=True).eval()
    output = net.run(IMAGES, [layer])
    assert output.activations[layer].min() <= lowest
    torch.testing.assert_close(output.logits, net(IMAGES), atol=1e-12, rtol=0)
    torch.testing.assert_close(output.heads[layer](output.activations[layer]), output.logits, atol=1e-9, rtol=0)


def test_methods_and_arguments_that_work_in_place_are_seen() -> None:
    net = lively("tests.models.helpers:InPlaceNetwork").eval()
    output = net.run(IMAGES, ["a", "b", "c"])
    expected = net(IMAGES)
    torch.testing.assert_close(output.logits, expected)
    assert tuple(output.heads) == ("a", "b", "c")
    for layer, head in output.heads.items():
        assert output.activations[layer].min() < 0
        torch.testing.assert_close(head(output.activations[layer]), expected, atol=1e-9, rtol=0)
