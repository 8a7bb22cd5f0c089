"""Deletion and insertion curves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.metrics import (
    Curves,
    DeletionAUC,
    InsertionAUC,
    area_under,
    baseline_images,
    perturbation_curves,
)
from distill.metrics.perturbation import Mode
from tests.metrics.extractor import FixedMaps, color_classifier
from tests.metrics.inputs import close, random, sparse
from tests.oracles import figures
from tests.oracles.cam import Array

MODES: tuple[Mode, ...] = ("deletion", "insertion")
LABELS = torch.tensor([0, 1, 2, 0, 1])
WEIGHTS = random(3, 3, 6, 5, seed=9) - 0.5


def probability(some: Tensor, rows: Tensor) -> Tensor:
    """Softmax of a linear network, of the class of each row."""
    logits = (some[:, None] * WEIGHTS).sum((2, 3, 4)) * 4
    return logits.softmax(1).gather(1, LABELS[rows][:, None])[:, 0]


def of_one(row: int) -> Callable[[Array], float]:
    def score(image: Array) -> float:
        logits = np.array([float((image * w).sum()) * 4 for w in WEIGHTS.numpy()])
        return float(np.exp(logits[LABELS[row]]) / np.exp(logits).sum())

    return score


@pytest.mark.parametrize("steps", [1, 4, 7, 30, 40])
@pytest.mark.parametrize("mode", MODES)
def test_curves_match_the_oracle(mode: Mode, steps: int) -> None:
    images, maps = random(5, 3, 6, 5), sparse(5, 6, 5, seed=4)
    maps[3] = random(6, 5, seed=6)
    got = perturbation_curves(probability, images, maps, mode=mode, steps=steps)
    for row in range(5):
        expected = figures.curve(
            of_one(row), images[row].numpy(), maps[row].numpy(), insert=mode == "insertion", steps=min(steps, 30)
        )
        if steps > 30:  # a step without a pixel repeats its point
            assert sorted(set(got.scores[row].tolist())) == pytest.approx(sorted(set(expected)), abs=1e-12)
            continue
        close(got.scores[row], torch.tensor(expected, dtype=torch.float64))
        fractions = [30 * i // steps / 30 for i in range(steps + 1)]
        close(got.fractions, torch.tensor(fractions))
        assert float(area_under(got)[row]) == pytest.approx(figures.area(fractions, expected), abs=1e-7)


@pytest.mark.parametrize("mode", MODES)
def test_areas_match_torchcam(mode: Mode) -> None:
    metrics = pytest.importorskip("torchcam.metrics")
    images, maps, labels = random(5, 3, 8, 8).float(), random(5, 4, 4, seed=4).float(), LABELS
    model = color_classifier()
    theirs = metrics.DeletionInsertionMetric(FixedMaps(model, maps), lambda z: z.softmax(-1), steps=16)
    theirs.update(images, labels.tolist())

    def score(some: Tensor, rows: Tensor) -> Tensor:
        return model(some).softmax(-1).gather(1, labels[rows][:, None])[:, 0]

    curves = perturbation_curves(score, images, maps, mode=mode)
    metric = DeletionAUC() if mode == "deletion" else InsertionAUC()
    metric.update(curves.scores, curves.fractions)
    expected = [value for name, value in theirs.summary().items() if mode in name]
    assert [float(metric.compute().value)] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("at_a_time", [1, 3, 16, 1000])
def test_the_memory_bound_is_kept_and_changes_nothing(mode: Mode, at_a_time: int) -> None:
    images, maps = random(5, 3, 6, 5), random(5, 3, 3, seed=4)
    seen: list[int] = []

    def counting(some: Tensor, rows: Tensor) -> Tensor:
        seen.append(len(some))
        assert len(rows) == len(some)
        return probability(some, rows)

    got = perturbation_curves(counting, images, maps, mode=mode, steps=7, images_at_a_time=at_a_time)
    assert max(seen) <= at_a_time
    assert sum(seen) == 5 * 8
    close(got.scores, perturbation_curves(probability, images, maps, mode=mode, steps=7).scores)


def test_curves_begin_and_end_with_image_and_baseline() -> None:
    images, maps, rows = random(5, 3, 6, 5), random(5, 3, 3, seed=4), torch.arange(5)
    whole, blurred = probability(images, rows), probability(baseline_images(images, "blur"), rows)
    deletion, insertion = (
        perturbation_curves(probability, images, maps, mode=mode, baseline="blur").scores for mode in MODES
    )
    close(deletion[:, 0], whole)
    close(deletion[:, -1], blurred)
    close(insertion[:, 0], blurred)
    close(insertion[:, -1], whole)


def test_deletion_of_a_map_is_insertion_of_its_opposite_backwards() -> None:
    images, maps = random(5, 3, 6, 5), random(5, 6, 5, seed=4) + 0.1
    deletion = perturbation_curves(probability, images, maps, mode="deletion", steps=6)
    insertion = perturbation_curves(probability, images, 1.2 - maps, mode="insertion", steps=6)
    close(deletion.scores, insertion.scores.flip(1))


def test_a_map_without_an_order_has_no_curve() -> None:
    images, maps = random(5, 3, 6, 5), random(5, 3, 3, seed=4)
    maps[0], maps[1], maps[2, 1, 1] = 0, 0.7, torch.nan
    curves = perturbation_curves(probability, images, maps, mode="deletion")
    assert curves.scores.isnan().all(1).tolist() == [True, True, True, False, False]
    metric = DeletionAUC()
    metric.update(curves.scores, curves.fractions)
    _, n, excluded = metric.compute()
    assert (int(n), int(excluded)) == (2, 3)


def test_an_area_is_over_the_true_fractions() -> None:
    curves = Curves(torch.tensor([0.0, 0.1, 1.0]), torch.tensor([[1.0, 0.5, 0.1]]))
    assert area_under(curves).item() == pytest.approx(0.075 + 0.27)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "removal"}, "`mode` must be one of deletion, insertion, got 'removal'"),
        ({"steps": 0}, "`steps` must be at least 1, got 0"),
        ({"images_at_a_time": 0}, "`images_at_a_time` must be at least 1, got 0"),
        ({"maps": torch.ones(1, 2, 2)}, "expected one map per image, got 1 maps for 2 images"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_arguments_are_named(wrong: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"images": torch.ones(2, 3, 6, 5), "maps": torch.ones(2, 2, 2), "mode": "deletion"}
    with pytest.raises(ValueError, match=message):
        perturbation_curves(probability, **(arguments | wrong))  # type: ignore[arg-type]
