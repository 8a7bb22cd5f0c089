from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from distill.data import Padding, Views, to_unit
from distill.errors import InputError


def slow_view(image: np.ndarray[Any, Any], view: int, views: Views) -> np.ndarray[Any, Any]:
    """One view of one image (C, H, W), computed from the definition."""
    side = 2 * views.pad + 1
    mirrored, dy, dx = view // side**2, view % side**2 // side, view % side
    mode: Any = "constant" if views.padding == "zero" else "reflect"
    padded = np.pad(image, ((0, 0), (views.pad,) * 2, (views.pad,) * 2), mode=mode)
    crop = padded[:, dy : dy + image.shape[1], dx : dx + image.shape[2]]
    return crop[:, :, ::-1] if mirrored else crop


@pytest.mark.parametrize("padding", ["zero", "reflect"])
@pytest.mark.parametrize(("pad", "flip"), [(4, True), (2, False), (0, True), (0, False)])
@pytest.mark.parametrize("shape", [(3, 9, 7), (1, 8, 8)])
def test_every_view_equals_the_slow_one(pad: int, flip: bool, padding: Padding, shape: tuple[int, ...]) -> None:
    views = Views(pad=pad, flip=flip, padding=padding)
    assert views.count == (2 * pad + 1) ** 2 * (1 + flip)
    images = torch.randint(0, 256, (views.count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    got = views.apply(images, torch.arange(views.count))
    assert got.dtype == torch.float32
    assert got.is_contiguous(memory_format=torch.channels_last)
    for view in range(views.count):
        expected = slow_view(images[view].numpy(), view, views).astype(np.float32) / np.float32(255)
        assert np.array_equal(got[view].numpy(), expected), view


def test_the_default_has_162_views_with_the_image_itself_in_the_middle() -> None:
    views = Views()
    assert (views.count, views.identity) == (162, 40)
    images = torch.arange(2 * 3 * 32 * 32).remainder(256).to(torch.uint8).view(2, 3, 32, 32)
    assert torch.equal(views.apply(images, torch.tensor([40, 40])), images / 255)
    assert torch.equal(views.apply(images, torch.tensor([121, 121])), images.flip(3) / 255)
    top, left, mirrored = views.decode(torch.tensor([0, 8, 9, 81]))
    assert (top.tolist(), left.tolist(), mirrored.tolist()) == ([0, 0, 1, 0], [0, 8, 0, 0], [False, False, False, True])


def test_float_images_and_masks_keep_their_scale() -> None:
    views = Views(pad=1)
    images = torch.rand(4, 3, 5, 5, dtype=torch.float64)
    got = views.apply(images, torch.tensor([4, 0, 8, 13]))
    assert got.dtype == torch.float64
    assert torch.equal(got[0], images[0])
    assert torch.equal(got[1, :, 1:, 1:], images[1, :, :-1, :-1])
    mask = torch.tensor([[[[1, 2], [0, 3]]]], dtype=torch.uint8)
    assert views.crop(mask, torch.tensor([13])).tolist() == [[[[2, 1], [3, 0]]]]
    assert to_unit(mask).max() == torch.tensor(3 / 255)


def test_a_view_alone_equals_the_view_in_a_batch() -> None:
    views = Views()
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    view = views.draw(8, seed=3, epoch=2)
    batch = views.apply(images, view)
    for i in range(8):
        assert torch.equal(batch[i : i + 1], views.apply(images[i : i + 1], view[i : i + 1]))


def test_drawing_is_uniform_and_a_function_of_seed_epoch_and_place() -> None:
    views = Views()
    drawn = views.draw(162_000, seed=0, epoch=0)
    counts = torch.bincount(drawn, minlength=162)
    assert len(counts) == 162
    chi_square = float((counts - 1_000).square().sum() / 1_000)
    assert 161 - 4 * 18 < chi_square < 161 + 4 * 18  # mean 161, deviation sqrt(2 * 161)
    assert torch.equal(views.draw(100, seed=0, epoch=0), drawn[:100])
    for other in ({"seed": 1, "epoch": 0}, {"seed": 0, "epoch": 1}):
        same = (views.draw(162_000, **other) == drawn).float().mean()
        assert abs(float(same) * 162 - 1) < 0.15
    assert views.draw(6, seed=5, epoch=3).tolist() == [33, 132, 108, 41, 154, 67]


def test_it_stays_on_the_device() -> None:
    with FakeTensorMode() as mode:
        images = torch.empty(6, 3, 32, 32, dtype=torch.uint8, device="cuda")
        view = torch.empty(6, dtype=torch.int64, device="cuda")
        for padding in ("zero", "reflect"):
            got = Views(padding=padding).apply(images, view)
            assert got.shape == (6, 3, 32, 32)
            assert got.device.type == "cuda"
        assert mode is not None


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Views(pad=-1), "`pad` must be 0 or more pixels, got -1"),
        (lambda: Views(padding="reflct"), "unknown padding 'reflct'; did you mean 'reflect'"),  # type: ignore[arg-type]
        (
            lambda: Views(padding="reflect").crop(torch.zeros(1, 1, 4, 4), torch.tensor([0])),
            "`pad` must be smaller than the image if `padding` is reflect, got 4 for 4 x 4",
        ),
    ],
)
def test_wrong_arguments_are_named(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
