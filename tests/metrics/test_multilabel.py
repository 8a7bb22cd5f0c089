"""Average precision against scikit-learn's definition and the rule of the VOC devkit, both in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from distill.metrics import MeanAveragePrecision, average_precision


def area(scores: np.ndarray, labels: np.ndarray) -> float:
    """Sum of precision times the rise of recall, at every distinct score (scikit-learn's average_precision_score)."""
    total, last = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= threshold
        precision, recall = labels[chosen].mean(), labels[chosen].sum() / labels.sum()
        total, last = total + (recall - last) * precision, recall
    return total


def eleven_point(scores: np.ndarray, labels: np.ndarray) -> float:
    """VOCap.m of the VOC 2007 devkit: mean over t of max(precision(recall >= t))."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order])
    recall, precision = hits / labels.sum(), hits / np.arange(1, len(labels) + 1)
    above = [precision[recall >= point - 1e-9] for point in np.arange(11) / 10]
    return float(np.mean([part.max() if len(part) else 0.0 for part in above]))


def cases(n: int = 60, classes: int = 5, *, ties: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(n, classes, generator=generator, dtype=torch.float64)
    labels = (scores + 2 * torch.randn(n, classes, generator=generator, dtype=torch.float64) > 0.5).long()
    return (scores.mul(2).round() if ties else scores), labels


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_is_scikit_learns(ties: bool) -> None:
    scores, labels = cases(ties=ties)
    expected = [area(s.numpy(), y.numpy()) for s, y in zip(scores.T, labels.T, strict=True)]
    np.testing.assert_allclose(average_precision(scores, labels).numpy(), expected, atol=1e-6)


def test_eleven_points_are_those_of_the_devkit() -> None:
    scores, labels = cases()
    expected = [eleven_point(s.numpy(), y.numpy()) for s, y in zip(scores.T, labels.T, strict=True)]
    np.testing.assert_allclose(average_precision(scores, labels, rule="eleven_point").numpy(), expected, atol=1e-6)


def test_the_two_rules_differ() -> None:
    scores, labels = cases()
    assert (
        average_precision(scores, labels) - average_precision(scores, labels, rule="eleven_point")
    ).abs().max() > 0.01


def test_unknown_labels_do_not_count() -> None:
    scores, labels = cases()
    partly = labels.clone()
    partly[10:30, 0] = -1
    rest = torch.cat([torch.arange(10), torch.arange(30, 60)])
    expected = average_precision(scores[rest], labels[rest])
    found = average_precision(scores, partly)
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1:], average_precision(scores, labels)[1:])


@pytest.mark.parametrize("rule", ["area", "eleven_point"])
def test_a_class_that_no_image_shows_has_no_score(rule: str) -> None:
    scores, labels = cases()
    labels[:, 2] = 0
    each = average_precision(scores, labels, rule=rule)  # type: ignore[arg-type]
    assert each.isnan().tolist() == [False, False, True, False, False]
    metric = MeanAveragePrecision(rule=rule)  # type: ignore[arg-type]
    metric.update(scores, labels)
    value, n, excluded = metric.compute()
    assert (int(n), int(excluded)) == (4, 1)
    torch.testing.assert_close(value, each[~each.isnan()].mean())


@pytest.mark.parametrize("rule", ["area", "eleven_point"])
def test_a_perfect_ranking_is_one_and_only_the_order_matters(rule: str) -> None:
    scores, labels = cases()
    perfect = average_precision(labels.double() * 1e3, labels, rule=rule)  # type: ignore[arg-type]
    assert (perfect == 1).all()
    saturated = average_precision(scores * 1e4, labels, rule=rule)  # type: ignore[arg-type]
    assert torch.equal(saturated, average_precision(scores, labels, rule=rule))  # type: ignore[arg-type]


def test_no_score_where_a_logit_is_nan() -> None:
    scores, labels = cases()
    scores[3, 1] = torch.nan
    assert average_precision(scores, labels).isnan().tolist() == [False, True, False, False, False]


def test_batches_are_joined_before_the_ranking() -> None:
    scores, labels = cases()
    metric = MeanAveragePrecision()
    for part in torch.arange(60).split(17):
        metric.update(scores[part], labels[part])
    torch.testing.assert_close(metric.compute().value, average_precision(scores, labels).mean())


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="`rule` must be one of area, eleven_point, got 'mean'"):
        MeanAveragePrecision(rule="mean")  # type: ignore[arg-type]
