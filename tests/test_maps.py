"""Resizing and normalising maps."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from distill.maps import Normalization, normalize_maps, resize_maps
from tests.oracles import maps as oracle

SCALES: tuple[Normalization, ...] = ("l2", "max", "sum", "min_max")
SHAPES = [(3, 5), (3, 4, 5), (2, 3, 2, 4)]


def random_maps(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 0.05


@pytest.mark.parametrize("how", get_args(Normalization))
@pytest.mark.parametrize("shape", SHAPES)
def test_scales_match_the_oracle(how: Normalization, shape: tuple[int, ...]) -> None:
    maps = random_maps(*shape)
    maps[0] *= 1e3
    expected = torch.from_numpy(oracle.normalize(maps.numpy(), how))
    torch.testing.assert_close(normalize_maps(maps, how), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("l2", [0.6, 0.8, 0.0]),
        ("max", [0.75, 1.0, 0.0]),
        ("sum", [3 / 7, 4 / 7, 0.0]),
        ("min_max", [0.75, 1.0, 0.0]),
        ("none", [3.0, 4.0, 0.0]),
    ],
)
def test_pinned_scales(how: Normalization, expected: list[float]) -> None:
    maps = torch.tensor([[3.0, 4.0, 0.0]], dtype=torch.float64)
    assert normalize_maps(maps, how)[0].tolist() == pytest.approx(expected, abs=1e-15)


def test_min_max_moves_the_smallest_value_to_zero() -> None:
    maps = torch.tensor([[-2.0, 0.0, 2.0]], dtype=torch.float64)
    assert normalize_maps(maps, "min_max")[0].tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("how", SCALES)
def test_a_scaled_map_is_the_same_map(how: Normalization) -> None:
    maps = random_maps(3, 4, 4)
    factors = torch.tensor([1e-6, 1.0, 1e6], dtype=torch.float64).view(3, 1, 1)
    torch.testing.assert_close(normalize_maps(maps * factors, how), normalize_maps(maps, how), rtol=1e-9, atol=0)


@pytest.mark.parametrize("how", SCALES)
@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_extreme_scales_survive_float32(how: Normalization, factor: float) -> None:
    maps = random_maps(2, 4, 4).float()
    found = normalize_maps(maps * factor, how)
    torch.testing.assert_close(found, normalize_maps(maps, how), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", SCALES)
def test_neighbours_do_not_matter(how: Normalization) -> None:
    maps = random_maps(4, 3, 3) * torch.tensor([1.0, 10.0, 100.0, 1000.0], dtype=torch.float64).view(4, 1, 1)
    together = normalize_maps(maps, how)
    for n in range(4):
        assert torch.equal(together[n : n + 1], normalize_maps(maps[n : n + 1], how))
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(normalize_maps(maps[order], how), together[order])


@pytest.mark.parametrize("how", SCALES)
def test_an_empty_map_stays_zero_and_has_zero_gradient(how: Normalization) -> None:
    maps = random_maps(3, 2, 2)
    maps[1] = 0.0
    maps.requires_grad_()
    found = normalize_maps(maps, how)
    assert found[1].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    (gradient,) = torch.autograd.grad((found * random_maps(3, 2, 2).flip(2)).sum(), maps)
    assert gradient[1].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert bool(gradient[0].abs().sum() > 0)
    assert bool(gradient[2].abs().sum() > 0)


def test_a_constant_map_has_no_range() -> None:
    maps = torch.full((1, 2, 2), 5.0, dtype=torch.float64, requires_grad=True)
    found = normalize_maps(maps, "min_max")
    assert found.flatten().tolist() == [0.0] * 4
    (gradient,) = torch.autograd.grad(found.square().sum() + found.sum(), maps)
    assert gradient.flatten().tolist() == [0.0] * 4


@pytest.mark.parametrize("how", SCALES)
def test_gradients_of_scales(how: Normalization) -> None:
    maps = (random_maps(2, 2, 3) + torch.arange(6, dtype=torch.float64).view(2, 3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: normalize_maps(m, how), (maps,))
    assert torch.autograd.gradgradcheck(lambda m: normalize_maps(m, how), (maps,))


def test_the_gradient_of_l2_is_orthogonal_to_the_map() -> None:
    maps = random_maps(2, 3, 3).requires_grad_()
    weights = random_maps(2, 3, 3).flip(1)
    (gradient,) = torch.autograd.grad((normalize_maps(maps, "l2") * weights).sum(), maps)
    assert (gradient * maps).sum((1, 2)).tolist() == pytest.approx([0.0, 0.0], abs=1e-14)
    assert bool(gradient.abs().amax() > 1e-3)


@pytest.mark.parametrize("how", get_args(Normalization))
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_broken_map_is_not_hidden(how: Normalization, bad: float) -> None:
    maps = random_maps(2, 2, 2)
    maps[0, 0, 0] = bad
    found = normalize_maps(maps, how)
    assert not bool(found[0].isfinite().all())
    assert bool(found[1].isfinite().all())


@pytest.mark.parametrize("how", get_args(Normalization))
def test_half_precision_is_widened(how: Normalization) -> None:
    maps = (random_maps(2, 4, 4) * 1e-4).half()
    found = normalize_maps(maps, how)
    assert found.dtype == torch.float32
    expected = torch.from_numpy(oracle.normalize(maps.double().numpy(), how))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_scale_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"l2.*max.*sum.*min_max.*none.*'l3'"):
        normalize_maps(random_maps(1, 2), "l3")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2, 4), (9,)),
        ((2, 7), (3,)),
        ((2, 3, 5), (7, 4)),
        ((2, 4, 4), (8, 8)),
        ((2, 8, 8), (4, 2)),
        ((1, 2, 3, 4), (5, 2, 9)),
        ((2, 1, 1), (3, 4)),
    ],
)
def test_sizes_match_the_oracle(shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    maps = random_maps(*shape)
    expected = torch.from_numpy(oracle.resize(maps.numpy(), size))
    torch.testing.assert_close(resize_maps(maps, size), expected, rtol=1e-12, atol=1e-12)


def test_pinned_size() -> None:
    maps = torch.tensor([[0.0, 4.0], [8.0, 12.0]], dtype=torch.float64)[None]
    assert resize_maps(maps, (2, 4))[0].tolist() == [[0.0, 1.0, 3.0, 4.0], [8.0, 9.0, 11.0, 12.0]]


def test_the_same_size_is_left_untouched() -> None:
    maps = random_maps(2, 3, 4)
    assert resize_maps(maps, (3, 4)) is maps


def test_resizing_is_differentiable() -> None:
    maps = random_maps(2, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: resize_maps(m, (5, 2)), (maps,))


@pytest.mark.parametrize("size", [(4,), (4, 4, 4)])
def test_another_number_of_axes_is_refused(size: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="spatial axes"):
        resize_maps(random_maps(2, 3, 3), size)
