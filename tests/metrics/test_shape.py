"""Sparseness, entropy and complexity of maps; zero, NaN and constant maps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill.metrics import (
    complexity,
    constant_map,
    entropy,
    gini,
    nan_map,
    zero_map,
)
from tests.metrics.inputs import as_tensor, close, random, rows, sparse
from tests.oracles import figures

SHAPES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[list[float]], float | None]]] = {
    "gini": (gini, figures.gini),
    "entropy": (entropy, figures.entropy),
    "complexity": (complexity, figures.complexity),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("make", [random, sparse])
def test_shapes_match_the_oracles(name: str, make: Callable[..., Tensor]) -> None:
    function, oracle = SHAPES[name]
    maps = make(6, 4, 5)
    maps[3] = 0
    expected = as_tensor([oracle(row) for row in rows(maps)])
    close(function(maps), expected)
    close(function(maps.float()), expected, atol=1e-6)


@pytest.mark.parametrize("name", SHAPES)
@given(exponent=st.floats(-25, 25), seed=st.integers(0, 20))
def test_shapes_see_neither_scale_nor_place(name: str, exponent: float, seed: int) -> None:
    function, _ = SHAPES[name]
    maps = random(3, 4, 5, seed=seed).float()
    shuffled = maps.flatten(1)[:, torch.randperm(20, generator=torch.Generator().manual_seed(seed))]
    close(function(shuffled * 10.0**exponent), function(maps), atol=1e-6)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_do_not_see_what_is_negative(name: str) -> None:
    function, _ = SHAPES[name]
    maps = random(3, 4, 5) - 0.5
    close(function(maps), function(maps.relu()))
    assert function(-maps.abs()).isnan().all()


def test_shapes_of_a_single_bright_pixel_and_of_an_even_map() -> None:
    single, even = torch.zeros(1, 4, 4), torch.full((1, 4, 4), 3.0)
    single[0, 2, 1] = 9
    assert gini(single).item() == pytest.approx(1 - 1 / 16)
    assert gini(even).item() == pytest.approx(0, abs=1e-7)
    assert entropy(single).item() == 0
    assert entropy(even).item() == pytest.approx(1)
    assert complexity(single).item() == pytest.approx(1 / 16)
    assert complexity(even).item() == 1


def test_a_single_pixel_has_no_entropy() -> None:
    assert entropy(torch.ones(2, 1, 1)).isnan().all()


def test_a_map_is_no_map_in_one_way_at_most() -> None:
    maps = random(6, 3, 3)
    maps[1], maps[2], maps[3, 0, 0], maps[4] = 0, -0.25, torch.nan, torch.inf
    assert zero_map(maps).tolist() == [0, 1, 0, 0, 0, 0]
    assert constant_map(maps).tolist() == [0, 0, 1, 0, 0, 0]
    assert nan_map(maps).tolist() == [0, 0, 0, 1, 1, 0]
