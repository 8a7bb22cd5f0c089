"""Pointing game, Loc(delta), instances hit, and the conversion of boxes to masks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill.metrics import (
    box_localization,
    boxes_to_instances,
    boxes_to_masks,
    instances_hit,
    pointing_game,
)
from tests.metrics.inputs import as_tensor, close, random
from tests.oracles import figures


def scenes() -> tuple[Tensor, Tensor]:
    """Maps with two empty, and instances of which one image has none."""
    maps = random(12, 4, 5) - 0.3
    maps[1], maps[2] = 0, -1
    instances = (random(12, 9, 11, seed=4) * 4 - 2).relu().ceil().int()
    instances[7] = 0
    instances[8, :, 3:] = 0
    return maps, instances


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 1.5, 3.0])
def test_pointing_matches_the_oracle(tolerance: float) -> None:
    maps, masks = scenes()
    masks[:, :, :8] = 0
    expected = [figures.pointing(a, m, tolerance) for a, m in zip(maps.numpy(), masks.numpy(), strict=True)]
    close(pointing_game(maps, masks, tolerance=tolerance), as_tensor(expected))
    assert {0.0, 1.0, None} == set(expected)


def test_the_first_of_equal_maxima_points() -> None:
    maps = torch.tensor([[[0.0, 2.0, 0.0], [2.0, 0.0, 2.0]]])
    first, later = torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)
    first[0, 0, 1], later[0, 1] = 1, 1
    assert pointing_game(maps, first).tolist() == [1.0]
    assert pointing_game(maps, later).tolist() == [0.0]


def test_a_tolerance_is_a_disc() -> None:
    maps, masks = torch.zeros(1, 7, 7), torch.zeros(1, 7, 7)
    maps[0, 3, 3] = 1
    masks[0, 5, 5] = 1
    assert pointing_game(maps, masks, tolerance=2.0).tolist() == [0.0]
    assert pointing_game(maps, masks, tolerance=2.83).tolist() == [1.0]


@pytest.mark.parametrize("delta", [0.0, 0.25, 0.5])
def test_loc_matches_the_oracle(delta: float) -> None:
    maps, masks = scenes()
    expected = [figures.loc(a, m, delta) for a, m in zip(maps.numpy(), masks.numpy(), strict=True)]
    close(box_localization(maps, masks, delta=delta), as_tensor(expected))
    assert expected[1] is expected[2] is expected[7] is None


def test_loc_is_the_papers_fraction() -> None:
    # above one half: pixels 1, 2 and 5; the box: 0 to 3
    maps = torch.tensor([[[0.0, 9.0, 8.0, 1.0, 4.0, 7.0]]])
    masks = torch.tensor([[[1, 1, 1, 1, 0, 0]]])
    assert box_localization(maps, masks, delta=0.5).item() == pytest.approx(2 / (4 + 1))


@pytest.mark.parametrize("delta", [0.2, 0.5, 1.0])
def test_instances_match_the_oracle(delta: float) -> None:
    maps, instances = scenes()
    expected = [figures.hit(a, m, delta) for a, m in zip(maps.numpy(), instances.numpy(), strict=True)]
    close(instances_hit(maps, instances, delta=delta), as_tensor(expected))
    close(instances_hit(maps, instances.to(torch.uint8), delta=delta), as_tensor(expected))


def test_a_map_at_the_threshold_touches() -> None:
    maps = torch.tensor([[[4.0, 2.0, 1.0]]])
    assert instances_hit(maps, torch.tensor([[[1, 2, 3]]]), delta=0.5).item() == pytest.approx(2 / 3)


def test_numbers_of_instances_may_have_gaps() -> None:
    assert instances_hit(torch.tensor([[[1.0, 0.0, 1.0]]]), torch.tensor([[[200, 9, 200]]])).tolist() == [0.5]


def test_boxes_lie_before_one_another_by_size() -> None:
    boxes = torch.tensor(
        [
            [[0, 0, 6, 5], [1, 1, 3, 3], [2, 2, 4, 4], [0, 0, 0, 0]],
            [[2, 2, 4, 4], [1, 1, 3, 3], [0, 0, 6, 5], [5, 4, 9, 9]],
        ]
    )
    got = boxes_to_instances(boxes, (5, 6))
    assert got.tolist() == figures.numbered(boxes.numpy(), 5, 6).tolist()
    assert (got != 0).tolist() == boxes_to_masks(boxes, (5, 6)).tolist()


def test_images_without_boxes_have_no_instances() -> None:
    assert boxes_to_instances(torch.zeros(2, 0, 4), (3, 4)).tolist() == [[[0] * 4] * 3] * 2


@given(exponent=st.floats(-30, 30))
def test_localisation_does_not_see_scale(exponent: float) -> None:
    maps, masks = scenes()
    maps = maps.float()
    scaled = maps * 2.0 ** int(exponent)
    close(pointing_game(scaled, masks), pointing_game(maps, masks))
    close(box_localization(scaled, masks, delta=0.25), box_localization(maps, masks, delta=0.25))
    close(instances_hit(scaled, masks), instances_hit(maps, masks))


def test_an_empty_mask_is_never_a_hit() -> None:
    maps, nothing = random(3, 4, 4), torch.zeros(3, 8, 8, dtype=torch.uint8)
    for score in (
        pointing_game(maps, nothing, tolerance=100.0),
        box_localization(maps, nothing, delta=0.0),
        instances_hit(maps, nothing),
    ):
        assert score.isnan().all()


def test_numbers_out_of_range_are_refused() -> None:
    maps, masks = torch.ones(1, 2, 2), torch.ones(1, 2, 2)
    with pytest.raises(ValueError, match="`tolerance` must be 0 or more, got -1"):
        pointing_game(maps, masks, tolerance=-1.0)
    with pytest.raises(ValueError, match=r"`delta` must be from 0 to below 1, got 1\.0"):
        box_localization(maps, masks, delta=1.0)
    with pytest.raises(ValueError, match=r"`delta` must be above 0 and at most 1, got 0\.0"):
        instances_hit(maps, masks, delta=0.0)
