"""Pixels, maps and differences as the page carries them, and the grid."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import UInt8
from PIL import Image

from distill.report import save_grid
from distill.report.common.colours import (
    LEVELS,
    colour,
    data_uri,
    difference_uri,
    map_side,
    map_uri,
)
from distill.report.evaluation.page import make_gallery_view
from tests.report.checks import make_gallery

BLUE, WHITE, RED = (5, 48, 97), (247, 247, 247), (103, 0, 31)  # the ends and the middle of ColorBrewer's RdBu


def decode(uri: str) -> UInt8[np.ndarray, "h w 3"]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def test_small_pixels_are_the_pictures() -> None:
    (picture,) = make_gallery(1).pictures
    assert np.array_equal(decode(data_uri(picture.pixels)), picture.pixels)


def test_large_pictures_are_shrunk() -> None:
    uri = data_uri(np.full((400, 200, 3), 90, np.uint8))
    assert uri.startswith("data:image/webp;base64,")
    pixels = decode(uri)
    assert pixels.shape == (160, 80, 3)
    assert abs(pixels.astype(int) - 90).max() <= 2


def test_a_map_has_its_colours_to_half_a_shade() -> None:
    heat = np.random.default_rng(0).random((16, 12)).astype(np.float32)
    shades = np.rint(heat * (LEVELS - 1)) / (LEVELS - 1)
    assert abs(shades - heat).max() <= 0.5 / (LEVELS - 1) + 1e-6
    assert np.array_equal(decode(map_uri(heat, side=160)), colour(shades))


def test_a_large_map_is_shrunk_by_its_means() -> None:
    heat = np.zeros((8, 4), np.float32)
    heat[0, 0] = 1.0
    pixels = decode(map_uri(heat, side=4))
    assert pixels.shape == (4, 2, 3)
    assert np.array_equal(pixels[0, 0], colour(np.array([[np.rint(63 / 4) / 63]]))[0, 0])
    assert np.array_equal(pixels[3, 1], colour(np.zeros((1, 1)))[0, 0])


def test_a_difference_says_less_same_and_more() -> None:
    heat, reference = np.array([[0.0, 0.7, 1.0]], np.float32), np.array([[1.0, 0.7, 0.0]], np.float32)
    less, same, more = decode(difference_uri(heat, reference, side=160))[0].astype(int)
    assert abs(less - BLUE).max() <= 1
    assert abs(same - WHITE).max() <= 1
    assert abs(more - RED).max() <= 1


def test_differences_are_antisymmetric_in_brightness_and_share_one_scale() -> None:
    zero = np.zeros((1, 1), np.float32)
    faint, strong = (decode(difference_uri(zero + value, zero, side=8)).astype(int).sum() for value in (0.1, 0.9))
    assert strong < faint < 3 * 247


def test_what_is_no_number_is_drawn_as_nothing() -> None:
    heat = np.array([[np.nan, 1.0]], np.float32)
    assert np.array_equal(decode(map_uri(heat, side=8)), colour(np.array([[0.0, 1.0]])))


@pytest.mark.parametrize("count", [0, 1, 240, 1800, 10**7])
def test_all_maps_together_keep_to_the_budget(count: int) -> None:
    side = map_side(count)
    assert 8 <= side <= 160
    assert side == 8 or count * side**2 <= 7e6


def test_a_difference_knows_its_network_and_its_size() -> None:
    gallery = make_gallery(2, names=("teacher", "CE", "KD"))
    view = make_gallery_view([gallery])
    assert (view.reference, view.compared) == ("teacher", (1, 2))
    shown = view.sections[0].pictures[0]
    origin, *others = gallery.pictures[0].panels
    for difference, panel in zip(shown.differences, others, strict=True):
        assert view.networks[difference.network] == panel.network
        assert difference.gap == pytest.approx(np.mean(np.abs(panel.heat - origin.heat)), abs=1e-6)
        assert difference.uri == difference_uri(panel.heat, origin.heat, side=160)


def test_pictures_of_several_sets_are_numbered_through() -> None:
    view = make_gallery_view([make_gallery(3), make_gallery(2, set_name="plain")])
    assert [shown.number for section in view.sections for shown in section.pictures] == [0, 1, 2, 3, 4]
    assert view.count == 5
    assert view.picks == ("best", "median", "worst")
    assert [name for name, _ in view.scores] == ["map_cosine", "energy_in_object"]  # entropy has no value
    assert [key for key, _ in view.strata] == ["only_reference", "only_network", "same_wrong"]


def test_how_pictures_were_found_is_said_once_where_it_is_the_same() -> None:
    ranked, other = make_gallery(1), make_gallery(1, set_name="plain")
    words = (
        "best, median and worst are by the cosine of KD’s map and the teacher’s, "
        "the rest were drawn at random by seed 7"
    )
    assert make_gallery_view([ranked, other]).selection == words
    random = replace(other, ranked_by=None)
    assert (
        make_gallery_view([ranked, random]).selection
        == f"on unbiased, {words}; on plain, all were drawn at random by seed 7"
    )


def test_nothing_to_browse() -> None:
    assert make_gallery_view([]).count == 0


def test_the_grid_is_drawn(tmp_path: Path) -> None:
    few, many = (save_grid(make_gallery(n), tmp_path / f"{n}.png") for n in (1, 3))
    sizes = [Image.open(path).size for path in (few, many)]
    assert sizes[0][0] == sizes[1][0]
    assert sizes[1][1] - sizes[0][1] == pytest.approx(2 * (1.35 + 0.42) * 150, abs=2)
    assert np.asarray(Image.open(few).convert("L")).std() > 20
