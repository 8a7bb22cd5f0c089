"""Scores of every image against the oracles, what is left out, and means over batches and processes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional import pairwise_cosine_similarity

from distill.metrics import (
    EnergyPointingGame,
    MapAgreement,
    MeanScore,
    TopOneAgreement,
    boxes_to_masks,
    energy_in_mask,
    map_cosine,
    top_one_agreement,
)
from tests.metrics import oracle
from tests.metrics.inputs import NAN, as_tensor, close, random


def test_agreement_matches_the_oracle() -> None:
    one, other = random(50, 3), random(50, 3, seed=4)
    close(top_one_agreement(one, other), as_tensor(oracle.agreement(one.numpy(), other.numpy())))


def test_agreement_counts_what_is_wrong_together() -> None:
    logits = torch.tensor([[3.0, 1.0], [1.0, 3.0], [3.0, 1.0]])
    reference = torch.tensor([[9.0, 8.0], [2.0, 5.0], [0.0, 0.1]])
    assert top_one_agreement(logits, reference).tolist() == [1.0, 1.0, 0.0]


def test_logits_that_are_not_numbers_agree_with_nothing() -> None:
    broken = torch.tensor([[NAN, 0.0], [1.0, 0.0]])
    metric = TopOneAgreement()
    metric.update(broken, broken)
    assert [float(part) for part in metric.compute()] == [1.0, 1.0, 1.0]


@pytest.mark.usefixtures("unchecked")
def test_agreement_refuses_other_classes() -> None:
    with pytest.raises(ValueError, match=r"`reference_logits` must have the same shape, got \(2, 3\) and \(2, 4\)"):
        top_one_agreement(torch.zeros(2, 3), torch.zeros(2, 4))


def test_cosine_matches_the_oracle_and_torchmetrics() -> None:
    one, other = random(6, 4, 5), random(6, 4, 5, seed=4)
    one[2] = 0
    other[4] = 0
    got = map_cosine(one, other)
    close(got, as_tensor(oracle.cosine(one.numpy(), other.numpy())))
    known = ~got.isnan()
    close(got[known], pairwise_cosine_similarity(one.flatten(1), other.flatten(1)).diagonal()[known])
    assert known.tolist() == [True, True, False, True, False, True]


def test_cosine_is_pinned() -> None:
    maps = torch.tensor([[3.0, 4.0], [1.0, 0.0], [2.0, 2.0]])
    other = torch.tensor([[4.0, 3.0], [0.0, 5.0], [1.0, 0.0]])
    assert map_cosine(maps, other).tolist() == pytest.approx([0.96, 0.0, math.sqrt(0.5)], abs=1e-7)


@pytest.mark.usefixtures("unchecked")
def test_cosine_refuses_maps_of_different_sizes() -> None:
    with pytest.raises(ValueError, match=r"same size, got \(2, 8, 8\) and \(2, 4, 4\)"):
        map_cosine(torch.ones(2, 8, 8), torch.ones(2, 4, 4))


@given(st.floats(1e-6, 1e6), st.integers(0, 20))
def test_cosine_does_not_see_scale_and_is_symmetric(factor: float, seed: int) -> None:
    one, other = random(3, 4, 4, seed=seed), random(3, 4, 4, seed=seed + 100)
    close(map_cosine(one * factor, other), map_cosine(other, one))
    close(map_cosine(one, one * factor), torch.ones(3))


def test_energy_matches_the_oracle() -> None:
    maps = random(7, 4, 4)
    masks = random(7, 10, 12, seed=4) > 0.6
    maps[1] = 0
    masks[5] = False
    got = energy_in_mask(maps, masks)
    close(got, as_tensor(oracle.energy(maps.numpy(), masks.numpy())))
    assert got.isnan().tolist() == [False, True, False, False, False, True, False]


def test_energy_takes_all_instances_together() -> None:
    maps = torch.tensor([[[4.0, 3.0, 2.0, 1.0]]])
    assert float(energy_in_mask(maps, torch.tensor([[[0, 1, 2, 0]]]))) == 0.5
    assert float(energy_in_mask(maps, torch.tensor([[[1, 1, 2, 3]]]))) == 1.0


def test_energy_leaves_out_what_is_negative() -> None:
    assert float(energy_in_mask(torch.tensor([[[3.0, -9.0, 1.0]]]), torch.tensor([[[1, 1, 0]]]))) == 0.75


def test_an_even_map_gets_the_share_of_the_object() -> None:
    masks = random(4, 6, 6) > 0.5
    close(energy_in_mask(torch.ones(4, 3, 3, dtype=torch.float64), masks), masks.double().mean((1, 2)))


@given(st.floats(1e-30, 1e30))
def test_energy_does_not_see_scale(factor: float) -> None:
    maps, masks = random(3, 4, 4), random(3, 8, 8, seed=5) > 0.5
    close(energy_in_mask(maps * factor, masks), energy_in_mask(maps, masks))


def test_boxes_are_half_open_and_padding_fills_nothing() -> None:
    boxes = torch.tensor([[[1, 0, 3, 2], [2, 1, 5, 4], [0, 0, 0, 0]], [[0, 0, 0, 0]] * 3, [[0, 0, 6, 5]] * 3])
    got = boxes_to_masks(boxes, (5, 6))
    assert got.tolist() == oracle.filled(boxes.numpy(), 5, 6).tolist()
    assert got.sum((1, 2)).tolist() == [4 + 9 - 1, 0, 30]


def test_a_mean_over_uneven_batches_is_the_mean_over_all_images() -> None:
    maps, masks = random(9, 4, 4), random(9, 8, 8, seed=4) > 0.5
    masks[3] = False
    metric = EnergyPointingGame()
    for part in (slice(0, 4), slice(4, 8), slice(8, 9)):
        metric.update(maps[part], masks[part])
    value, n, excluded = metric.compute()
    scores = [score for score in oracle.energy(maps.numpy(), masks.numpy()) if score is not None]
    assert float(value) == pytest.approx(math.fsum(scores) / len(scores), abs=1e-12)
    assert (int(n), int(excluded)) == (8, 1)


def test_processes_add_up() -> None:
    one, other, whole = (MapAgreement(measure="cosine") for _ in range(3))
    maps, reference = random(5, 4), random(5, 4, seed=4)
    one.update(maps[:2], reference[:2])
    other.update(maps[2:], reference[2:])
    whole.update(maps, reference)
    one.merge_state(other)
    assert [float(part) for part in one.compute()] == pytest.approx(
        [float(part) for part in whole.compute()], abs=1e-12
    )


def test_without_any_score_the_value_is_not_a_number() -> None:
    metric = EnergyPointingGame()
    metric.update(torch.ones(2, 4, 4), torch.zeros(2, 8, 8))
    value, n, excluded = metric.compute()
    assert math.isnan(float(value))
    assert (int(n), int(excluded)) == (0, 2)


def test_many_small_scores_are_not_lost() -> None:
    metric = MeanScore()
    for _ in range(3):
        metric.update(torch.full((100_000,), 0.1, dtype=torch.float64))
    assert float(metric.compute().value) == pytest.approx(0.1, abs=1e-12)


def test_an_unknown_measure_is_named() -> None:
    with pytest.raises(ValueError, match=r"`measure` must be one of cosine, pearson, .*, got 'cosin'"):
        MapAgreement(measure="cosin")
