"""A network restricted to some classes equals a network around it that selects the columns of its logits."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distill.explain import METHODS, Explainer
from distill.models import StagedNetwork, create_model, describe, fold_batch_norm, stage_network
from distill.models.class_selection import SelectedHead
from distill.models.hooked import run_hooked
from distill.models.randomise import cascade
from tests.models.helpers import FunctionalNetwork, lively

COLUMNS = [6, 0, 3]
IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 1])


class Branching(FunctionalNetwork):
    """A network that torch.fx cannot trace."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.sum() > -1e9 else -images)


class Columns(nn.Module):
    """The oracle: a network around another one, whose logits are columns of the inner logits."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)[:, torch.tensor(COLUMNS)]


def staged(network: nn.Module, **options: Any) -> StagedNetwork:
    return stage_network(network.double(), name="own", num_classes=7, **options).eval()


def networks() -> Mapping[str, tuple[StagedNetwork, str]]:
    torch.manual_seed(4)
    wrn = lively("wrn_10_1", num_classes=7).eval()
    return {
        "pooled": (wrn, "final"),
        "linear": (wrn, "group2"),
        "two linear layers": (staged(FunctionalNetwork(7)), "conv"),
        "not traced": (staged(Branching(7)), "conv"),
    }


@pytest.mark.parametrize("kind", list(networks()))
@pytest.mark.parametrize("method", METHODS)
def test_logits_and_maps_are_those_of_a_network_that_selects_columns(kind: str, method: str) -> None:
    full, layer = networks()[kind]
    if method == "cam" and kind != "pooled":
        pytest.skip("needs global average pooling")
    selected = full.select_classes(COLUMNS, ["a", "b", "c"])
    path = f"inner.{full.cuts.get(layer, layer)}"
    oracle = run_hooked(Columns(copy.deepcopy(full.network)), full.normalise(IMAGES), [path])
    output = selected.run(IMAGES, [layer])
    torch.testing.assert_close(output.logits, oracle.logits)
    torch.testing.assert_close(selected(IMAGES), oracle.logits)
    if method == "cam":
        weights = full.network.fc.weight[torch.tensor(COLUMNS)[LABELS]]  # type: ignore[union-attr,index]
        expected = torch.einsum("nk,nkij->nij", weights, output.activations[layer]).relu()
    else:
        expected = Explainer(method, path).from_output(oracle, LABELS)
    found = Explainer(method, layer).from_output(output, LABELS)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)
    if METHODS[method].class_specific:  # the maps of other columns differ, so that this test can fail
        other = full.select_classes([1, 2, 4]).run(IMAGES, [layer])
        assert not torch.allclose(Explainer(method, layer).from_output(other, LABELS), expected, rtol=1e-3)


def test_every_way_of_computing_gradients_stays() -> None:
    full, _ = networks()["pooled"]
    output = full.select_classes(COLUMNS).run(IMAGES, ["final", "group2"])
    head = output.heads["final"]
    assert isinstance(head, SelectedHead)
    assert head.classifier is not None
    assert head.classifier.weight.shape == (3, 64)
    ways = [
        Explainer("grad_cam", "final", gradients=how).from_output(output, LABELS) for how in ("closed_form", "linear")
    ]
    ways.append(Explainer("grad_cam", "final", gradients="autograd").from_output(output, LABELS))
    for way in ways[1:]:
        torch.testing.assert_close(way, ways[0])

    def entropy(logits: Tensor) -> Tensor:
        return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)

    path = f"inner.{full.cuts['group2']}"
    oracle = run_hooked(Columns(copy.deepcopy(full.network)), full.normalise(IMAGES), [path])
    expected = Explainer("grad_cam", path).from_output(oracle, entropy)
    torch.testing.assert_close(Explainer("grad_cam", "group2").from_output(output, entropy), expected)


def test_the_classifier_is_differentiable_to_the_original_weights() -> None:
    full = lively("wrn_10_1", num_classes=7)
    head = full.select_classes(COLUMNS).run(IMAGES, ["final"]).heads["final"]
    assert head.classifier is not None
    (gradient,) = torch.autograd.grad(head.classifier.weight.sum(), full.network.fc.weight)  # type: ignore[union-attr,arg-type]
    assert gradient.sum(1).nonzero().flatten().tolist() == sorted(COLUMNS)


def test_the_network_itself_is_unchanged_and_saved_with_all_classes() -> None:
    full, _ = networks()["pooled"]
    before = full(IMAGES)
    selected = full.select_classes(COLUMNS, ["a", "b", "c"])
    again = selected.select_classes([2, 0])
    assert torch.equal(full(IMAGES), before)
    assert (full.spec.num_classes, selected.classes, again.classes) == (7, ("a", "b", "c"), ("c", "a"))
    torch.testing.assert_close(again(IMAGES), before[:, [3, 6]])
    assert describe(selected) == describe(full)
    assert set(selected.state_dict()) == set(full.state_dict())


def test_folding_and_random_weights_keep_the_selection() -> None:
    full = create_model("wrn_10_1", num_classes=7).eval()
    selected, images = full.select_classes(COLUMNS), IMAGES.float()
    torch.testing.assert_close(fold_batch_norm(selected)(images), full(images)[:, COLUMNS])
    assert {tuple(network(images).shape) for _, network in cascade(selected, seed=1)} == {(4, 3)}
    with torch.no_grad():
        compiled = torch.compile(selected.run, backend="eager")(images, ["final"])
    torch.testing.assert_close(compiled.logits, full(images)[:, COLUMNS])
    maps = [
        Explainer("grad_cam", "final").from_output(one, LABELS) for one in (compiled, selected.run(images, ["final"]))
    ]
    torch.testing.assert_close(*maps)
