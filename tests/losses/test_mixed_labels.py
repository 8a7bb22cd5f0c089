"""Losses of mixed images: both classes, weighted by their shares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses import CrossEntropy, Objective, TermInputs, WeightedTerm
from distill.types import Mix, StagedOutput

CLASSES = 5


def inputs(share: float, n: int = 7) -> tuple[Tensor, Tensor, Mix]:
    torch.manual_seed(2)
    labels, others = torch.randint(CLASSES, (2, n))
    return torch.randn(n, CLASSES, dtype=torch.float64), labels, Mix(others, torch.tensor(share), torch.tensor(share))


def loss_of(term: CrossEntropy, logits: Tensor, labels: Tensor, mix: Mix | None) -> float:
    return float(term(TermInputs(StagedOutput(logits), None, labels, mix=mix)))


def by_loops(logits: Tensor, labels: Tensor, mix: Mix, smoothing: float, weights: list[float]) -> float:
    """The loss, image by image: the weighted losses of both classes, divided by the weights of both."""
    total = divisor = 0.0
    for row, (first, second) in enumerate(zip(labels.tolist(), mix.others.tolist(), strict=True)):
        z = logits[row].numpy()
        log_p = z - np.log(np.exp(z).sum())
        for share, label in ((float(mix.share), first), (1 - float(mix.share), second)):
            smooth = sum(weights[c] * log_p[c] for c in range(CLASSES)) / CLASSES
            total -= share * ((1 - smoothing) * weights[label] * log_p[label] + smoothing * smooth)
            divisor += share * weights[label]
    return total / divisor


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_that_of_loops(share: float, smoothing: float, weighted: bool) -> None:
    logits, labels, mix = inputs(share)
    weights = [0.5, 2.0, 1.0, 0.0, 3.0] if weighted else [1.0] * CLASSES
    term = CrossEntropy(label_smoothing=smoothing)
    if weighted:
        term.weigh_classes(torch.tensor(weights, dtype=torch.float64))
    assert loss_of(term, logits, labels, mix) == pytest.approx(
        by_loops(logits, labels, mix, smoothing, weights), rel=1e-6
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_a_share_of_one_is_the_loss_of_labels(weighted: bool) -> None:
    logits, labels, mix = inputs(1.0)
    term = CrossEntropy(label_smoothing=0.1)
    if weighted:
        term.weigh_classes(torch.tensor([0.5, 2.0, 1.0, 0.0, 3.0], dtype=torch.float64))
    assert loss_of(term, logits, labels, mix) == pytest.approx(loss_of(term, logits, labels, None), rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_without_class_weights_it_is_that_of_probabilities(smoothing: float) -> None:
    logits, labels, mix = inputs(0.7)
    expected = F.cross_entropy(logits, mix.weights(labels, CLASSES).double(), label_smoothing=smoothing)
    found = loss_of(CrossEntropy(label_smoothing=smoothing), logits, labels, mix)
    assert found == pytest.approx(float(expected), rel=1e-6)


def test_shares_of_one_class_add_up() -> None:
    mix = Mix(torch.tensor([1, 0]), torch.tensor(0.75), torch.tensor(0.25))
    assert mix.weights(torch.tensor([1, 2]), 3).tolist() == [[0.0, 1.0, 0.0], [0.25, 0.0, 0.75]]


def test_the_objective_passes_the_shares_on() -> None:
    logits, labels, mix = inputs(0.6)
    objective = Objective({"cross_entropy": WeightedTerm(2.0, CrossEntropy())})
    with_mix = objective(StagedOutput(logits), None, {}, labels, mix=mix)
    assert float(with_mix.total) == pytest.approx(2 * loss_of(CrossEntropy(), logits, labels, mix))
    assert float(with_mix.total) != pytest.approx(float(objective(StagedOutput(logits), None, {}, labels).total))
