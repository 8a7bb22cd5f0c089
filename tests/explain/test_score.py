"""Every kind of score: its value and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.explain import (
    METHODS,
    Explainer,
    choose_score,
    grad_cam_pp,
    grad_cam_pp_softmax,
    score_gradients,
)
from distill.explain.gradients import (
    Score,
    Target,
    logit_weights,
    score_of,
)
from distill.models import StagedNetwork
from distill.types import StagedOutput
from tests.explain.networks import WRN_CUTS, same

double = torch.float64
WAYS = {"final": ("closed_form", "linear", "autograd"), "group2": ("linear", "autograd"), "group1": ("linear",)}


def log_probability(logits: Tensor) -> Tensor:
    return logits.log_softmax(1)[:, 1]


def entropy(logits: Tensor) -> Tensor:
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def by_hand(target: str, row: Tensor, label: int) -> Tensor:
    """Return the score of one sample from its logits (classes), written out."""
    exp = (row - row.amax()).exp()
    probabilities = exp / exp.sum()
    return {
        "label": row[label],
        "predicted": row.amax(),
        "class": row[2],
        "mean": (row[0] + row[2]) / 2,
        "log_probability": probabilities[1].log(),
        "entropy": -(probabilities * probabilities.log()).sum(),
    }[target]


TARGETS: dict[str, Target] = {
    "label": "label",
    "predicted": "predicted",
    "class": 2,
    "mean": [0, 2],
    "log_probability": log_probability,
    "entropy": entropy,
}


def own_gradients(output: StagedOutput, layer: str, target: str, labels: Tensor) -> Tensor:
    """Return the gradients with one pass of the head and one backward pass per sample."""
    rows = []
    for n, label in enumerate(labels.tolist()):
        leaf = output.activations[layer][n : n + 1].detach().clone().requires_grad_()
        rows.append(torch.autograd.grad(by_hand(target, output.heads[layer](leaf)[0], label), leaf)[0])
    return torch.cat(rows)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("layer", WRN_CUTS)
@pytest.mark.parametrize("target", list(TARGETS))
def test_the_gradient_is_each_samples_own(
    wrn: StagedNetwork, images: Tensor, labels: Tensor, target: str, layer: str, training: bool
) -> None:
    output = wrn.train(training).run(images, [layer])
    score = choose_score(TARGETS[target], output.logits, labels)
    expected = own_gradients(output, layer, target, labels)
    size = float(expected.abs().amax())
    assert size > 0
    for how in WAYS[layer]:
        found = score_gradients(
            output.heads[layer],
            output.activations[layer],
            score,
            create_graph=False,
            how=how,  # type: ignore[arg-type]
        )
        torch.testing.assert_close(found.detach().expand_as(expected), expected, rtol=0, atol=1e-10 * size)


@pytest.mark.parametrize("target", list(TARGETS))
def test_the_explainer_explains_the_score(wrn: StagedNetwork, images: Tensor, labels: Tensor, target: str) -> None:
    output = wrn.run(images, ["group2"])
    expected = grad_cam_pp(output.activations["group2"].detach(), own_gradients(output, "group2", target, labels))
    assert float(expected.flatten(1).amax(1).amin()) > 0
    found = Explainer("grad_cam_pp", "group2", target=TARGETS[target])(wrn, images, labels)
    torch.testing.assert_close(found.maps, expected, rtol=1e-9, atol=1e-12)


def test_scores_are_pinned() -> None:
    logits = torch.tensor([[1.0, 2.0, 4.0], [0.0, -1.0, 3.0]], dtype=double)
    labels = torch.tensor([1, 0])
    found = {name: score_of(logits, choose_score(target, logits, labels)).tolist() for name, target in TARGETS.items()}
    assert found["label"] == [2.0, 0.0]
    assert found["predicted"] == [4.0, 3.0]
    assert found["class"] == [4.0, 3.0]
    assert found["mean"] == [2.5, 1.5]
    for name in ("log_probability", "entropy"):
        assert found[name] == pytest.approx([float(by_hand(name, row, 0)) for row in logits], abs=1e-14)
    weights = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.5, 0.0]], dtype=double)
    assert score_of(logits, weights).tolist() == [-3.0, -0.5]


def test_weights_of_the_logits_are_pinned() -> None:
    logits = torch.tensor([[1.0, 2.0, 4.0]], dtype=double)
    one = torch.tensor([2])
    assert logit_weights(logits, one, create_graph=False).tolist() == [[0.0, 0.0, 1.0]]
    mean = choose_score([0, 1], logits, None)
    assert logit_weights(logits, mean, create_graph=False).tolist() == [[0.5, 0.5, 0.0]]
    found = logit_weights(logits, log_probability, create_graph=False)
    expected = torch.tensor([[0.0, 1.0, 0.0]], dtype=double) - logits.softmax(1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert not found.requires_grad


@pytest.mark.parametrize("score", ["weights", "log_probability"])
def test_weights_that_are_the_same_number_give_the_same_maps(
    wrn: StagedNetwork, images: Tensor, labels: Tensor, score: str
) -> None:
    """One-hot weights, or a function that selects a logit, give the map of the class."""
    output = wrn.run(images, ["group1"])
    explainer = Explainer("grad_cam", "group1")
    expected = explainer.from_output(output, labels)
    other: Score = torch.nn.functional.one_hot(labels, 3).double()
    if score != "weights":

        def other(logits: Tensor) -> Tensor:
            return logits.gather(1, labels[:, None])[:, 0]

    assert float(expected.amax()) > 0
    torch.testing.assert_close(explainer.from_output(output, other), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("layer", WRN_CUTS)
@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.class_specific])
def test_several_classes_at_once_are_one_at_a_time(wrn: StagedNetwork, images: Tensor, layer: str, method: str) -> None:
    if method == "cam" and layer != "final":
        with pytest.raises(ValueError, match="cam"):
            Explainer(method, layer)(wrn, images, torch.zeros(4, 2, dtype=torch.int64))
        return
    several = torch.tensor([[0, 2], [1, 0], [2, 1], [1, 1]])
    explainer = Explainer(method, layer, normalize="max")
    found = explainer(wrn, images, several)
    assert found.maps.shape[:2] == (4, 2)
    assert found.target.tolist() == several.tolist()
    assert float(found.maps.amax()) == 1.0
    for m in range(2):
        same(found.maps[:, m], explainer(wrn, images, several[:, m]).maps)
    same(found.maps[3, 0], found.maps[3, 1])


def test_what_was_explained_is_returned(wrn: StagedNetwork, images: Tensor, labels: Tensor) -> None:
    logits = wrn(images).detach()
    for target, expected in {
        "label": labels,
        "predicted": logits.argmax(1),
        "class": torch.full((4,), 2),
        "mean": torch.tensor([[0.5, 0.0, 0.5]], dtype=double).expand(4, 3),
        "log_probability": torch.tensor([[0.0, 1.0, 0.0]], dtype=double) - logits.softmax(1),
    }.items():
        found = Explainer("grad_cam", "group2", target=TARGETS[target])(wrn, images, labels)
        torch.testing.assert_close(found.target, expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(found.logits, logits, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("layer", ["final", "group2"])
@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_a_callable_is_explained_where_no_graph_is_made(
    wrn: StagedNetwork, images: Tensor, layer: str, guard: type[torch.no_grad]
) -> None:
    explainer = Explainer("grad_cam_pp", layer, target=log_probability)
    expected = explainer(wrn, images).maps
    with guard():
        found = explainer(wrn, images).maps
    assert float(expected.amax()) > 0
    torch.testing.assert_close(found.clone(), expected)


@pytest.mark.parametrize("target", [3, -1, [0, 7], []])
def test_a_class_that_does_not_exist_is_refused(wrn: StagedNetwork, images: Tensor, target: Target) -> None:
    with pytest.raises(ValueError, match="from 0 to 2"):
        Explainer("grad_cam", "final", target=target)(wrn, images)


def test_labels_that_are_missing_are_asked_for(wrn: StagedNetwork, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"labels.*predicted"):
        Explainer("grad_cam", "final")(wrn, images)
    with pytest.raises(ValueError, match="labels"):
        choose_score("label", torch.zeros(2, 3), None)


@pytest.mark.parametrize("layer", ["final", "group2"])
def test_scores_that_cannot_be_explained_are_refused(wrn: StagedNetwork, images: Tensor, layer: str) -> None:
    def one_for_all(logits: Tensor) -> Tensor:
        return logits.sum()

    def constant(logits: Tensor) -> Tensor:
        return torch.ones(len(logits), dtype=logits.dtype)

    with pytest.raises(ValueError, match=r"one number per sample, \(4,\); it returned \(\)"):
        Explainer("grad_cam", layer, target=one_for_all)(wrn, images)
    with pytest.raises(ValueError, match="does not depend"):
        Explainer("grad_cam", layer, target=constant)(wrn, images)
    with pytest.raises(ValueError, match="does not depend"):
        Explainer("grad_cam", layer, target=constant, gradients="autograd")(wrn, images)


@pytest.mark.parametrize("one", [np.int64(3), torch.tensor(3)])
def test_a_class_may_be_a_number_of_any_kind(one: Any) -> None:
    score = choose_score(one, torch.zeros(2, 5), None)
    assert isinstance(score, Tensor)
    assert score.tolist() == [3, 3]


@pytest.mark.parametrize("wrong", [1.5, [0.5], None])
def test_what_is_no_class_is_refused(wrong: Any, unchecked: None) -> None:
    with pytest.raises(ValueError, match="`target` must be classes from 0 to 4"):
        choose_score(wrong, torch.zeros(2, 5), None)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_a_graph_is_not_promised_where_gradients_are_off(
    wrn: StagedNetwork, images: Tensor, guard: type[torch.no_grad]
) -> None:
    with guard(), pytest.raises(ValueError, match="`create_graph=True` needs gradients"):
        Explainer(target="predicted")(wrn, images, create_graph=True)


@pytest.mark.parametrize("layer", ["final", "group2"])
def test_without_create_graph_nothing_holds_a_graph(wrn: StagedNetwork, images: Tensor, layer: str) -> None:
    output = wrn.run(images, [layer])
    classes = torch.zeros(len(images), dtype=torch.int64)
    found = score_gradients(output.heads[layer], output.activations[layer], classes, create_graph=False)
    assert not found.requires_grad
    assert score_gradients(output.heads[layer], output.activations[layer], classes, create_graph=True).requires_grad


def test_the_softmax_score_belongs_to_the_statistics_of_the_head(wrn: StagedNetwork, images: Tensor) -> None:
    """In training mode with running statistics, the probabilities also come from the head with running statistics."""
    wrn.train()
    output = wrn.run(images, ["group2"])
    head = output.heads["group2"].with_running_statistics()
    classes = torch.zeros(len(images), dtype=torch.int64)
    activations = output.activations["group2"]
    found = Explainer("grad_cam_pp_softmax", "group2", statistics="running").from_output(output, classes)
    each = [
        score_gradients(head, activations, torch.full_like(classes, c), create_graph=False)
        for c in range(output.logits.shape[1])
    ]
    own = grad_cam_pp_softmax(activations, torch.stack(each, 1), head(activations), classes)
    other = grad_cam_pp_softmax(activations, torch.stack(each, 1), output.logits, classes)
    torch.testing.assert_close(found, own)
    assert float((own - other).abs().amax()) > 1e-6 * float(own.abs().amax())
