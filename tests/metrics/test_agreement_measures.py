"""Similarity measures of two maps, against loops, torchmetrics and known values."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef
from torchmetrics.functional.image import structural_similarity_index_measure

from distill.metrics import (
    MEASURES,
    map_jensen_shannon,
    map_pearson,
    map_spearman,
    map_ssim,
    map_top_iou,
)
from distill.metrics.map_agreement import average_ranks
from tests.metrics.inputs import as_tensor, close, random, rows, sparse
from tests.oracles import figures

ORACLES = {
    "pearson": figures.pearson,
    "spearman": figures.spearman,
    "top_iou": lambda a, b: figures.top_iou(a, b, 0.2),
    "jensen_shannon": figures.jensen_shannon,
}


def pairs(*, tied: bool) -> tuple[Tensor, Tensor]:
    """Eight pairs of maps; in one pair the first map is zero, in another the second is constant."""
    make = sparse if tied else random
    one, other = make(8, 5, 7), make(8, 5, 7, seed=4)
    one[2] = 0
    other[5] = 0.3
    return one, other


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("measure", ORACLES)
def test_measures_match_the_oracles(measure: str, tied: bool) -> None:
    one, other = pairs(tied=tied)
    expected = [ORACLES[measure](a, b) for a, b in zip(rows(one), rows(other), strict=True)]
    close(MEASURES[measure](one, other), as_tensor(expected))
    close(MEASURES[measure](one.float(), other.float()), as_tensor(expected), atol=1e-6)


@pytest.mark.parametrize("tied", [False, True])
def test_correlations_match_torchmetrics(tied: bool) -> None:
    one, other = pairs(tied=tied)
    known = [0, 1, 3, 4, 6, 7]
    a, b = one.flatten(1).T[:, known], other.flatten(1).T[:, known]
    close(map_pearson(one, other)[known], pearson_corrcoef(a, b), atol=1e-6)
    close(map_spearman(one, other)[known], spearman_corrcoef(a, b), atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (12, 30)])
def test_ssim_matches_torchmetrics(size: tuple[int, int]) -> None:
    one, other = random(4, *size), random(4, *size, seed=4) * 7
    scaled = [m / m.amax((1, 2), keepdim=True) for m in (one, other)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = structural_similarity_index_measure(
            scaled[0][:, None], scaled[1][:, None], data_range=1.0, reduction="none"
        )
    assert isinstance(expected, Tensor)
    close(map_ssim(one, other), expected, atol=1e-12)
    close(map_ssim(one.float(), other.float()), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 2), (5, 8)])
def test_ssim_of_maps_smaller_than_the_window_matches_the_oracle(size: tuple[int, int]) -> None:
    one, other = random(4, *size), random(4, *size, seed=4)
    one[1] = 0
    expected = [figures.ssim(a, b) for a, b in zip(one.numpy(), other.numpy(), strict=True)]
    close(map_ssim(one, other), as_tensor(expected))


def test_ranks_of_equal_pixels_are_their_mean() -> None:
    maps = sparse(5, 40)
    assert rows(average_ranks(maps)) == [figures.ranks(row) for row in rows(maps)]


def test_the_highest_of_equal_pixels_are_the_first() -> None:
    one = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0]])
    other = torch.tensor([[0.0, 3.0, 3.0, 3.0, 9.0]])
    # 2 of 5: pixels 0 and 1 of one, 4 and 1 of the other
    assert map_top_iou(one, other, share=0.4).item() == pytest.approx(1 / 3)
    assert map_top_iou(one, other, share=1.0).item() == 1.0
    assert map_top_iou(one, other, share=0.01).item() == 0.0  # one pixel at least: 0 and 4


@pytest.mark.parametrize(("pixels", "count"), [(7, 1), (8, 2), (12, 2), (13, 3), (1024, 205)])
def test_the_number_of_highest_pixels_is_rounded_to_the_nearest(pixels: int, count: int) -> None:
    """The highest pixels of the two maps have one pixel in common, so the score determines their number."""
    one = torch.arange(1.0, pixels + 1)
    other = torch.arange(float(pixels), 0, -1)
    other[-1] = 2.0 * pixels
    assert map_top_iou(one[None], other[None]).item() == pytest.approx(1 / (2 * count - 1))


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="`share` must be above 0 and at most 1, got"):
        map_top_iou(torch.ones(1, 4), torch.ones(1, 4), share=share)


def test_divergence_is_in_bits_from_0_to_1() -> None:
    left, right, both = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 4.0]]), torch.tensor([[3.0, 3.0]])
    assert map_jensen_shannon(left, right).item() == 1.0
    assert map_jensen_shannon(both, both * 2).item() == 0.0
    # H(3/4, 1/4) - H(1/2, 1/2) / 2
    assert map_jensen_shannon(left, both).item() == pytest.approx(0.811278 - 0.5, abs=1e-6)


def test_opposite_maps_are_correlated_by_minus_one() -> None:
    maps = random(3, 6, 6)
    close(map_pearson(maps, 1 - maps), -torch.ones(3))
    close(map_spearman(maps, (1 - maps) ** 3), -torch.ones(3))


@pytest.mark.parametrize("measure", MEASURES)
@given(exponent=st.floats(-25, 25), seed=st.integers(0, 20))
def test_measures_do_not_see_scale_and_are_symmetric(measure: str, exponent: float, seed: int) -> None:
    one, other = random(3, 6, 6, seed=seed).float(), random(3, 6, 6, seed=seed + 100).float()
    score = MEASURES[measure]
    scaled = one * 10.0**exponent
    close(score(scaled, other), score(one, other), atol=2e-6)
    close(score(other, one), score(one, other), atol=2e-6)
    perfect = 0.0 if measure == "jensen_shannon" else 1.0
    close(score(scaled, one), torch.full((3,), perfect), atol=2e-6)


def test_pearson_does_not_see_a_shift() -> None:
    one, other = random(3, 6, 6), random(3, 6, 6, seed=4)
    close(map_pearson(one + 100, other - 3), map_pearson(one, other), atol=1e-11)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.usefixtures("unchecked")
def test_maps_of_other_sizes_are_refused(measure: str) -> None:
    with pytest.raises(ValueError, match=r"same size, got \(2, 8, 8\) and \(2, 4, 4\)"):
        MEASURES[measure](torch.ones(2, 8, 8), torch.ones(2, 4, 4))


@pytest.mark.parametrize("measure", MEASURES)
def test_clips_and_signals_have_scores(measure: str) -> None:
    """Only SSIM depends on neighbouring pixels; there an additional axis of length 1 changes nothing."""
    one, other = random(2, 3, 4, 5), random(2, 3, 4, 5, seed=4)
    got = MEASURES[measure](one, other)
    if measure == "ssim":
        close(MEASURES[measure](one[:, None], other[:, None]), got)
    else:
        close(MEASURES[measure](one.flatten(1), other.flatten(1)), got)
