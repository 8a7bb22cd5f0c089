"""Colour jitter equals torchvision's, with a separate amount for every image."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torchvision.transforms.v2 import functional as oracle

from distill.data import ColourJitter
from distill.errors import InputError

Adjust = Callable[[torch.Tensor, float], torch.Tensor]


def pictures(n: int = 16) -> torch.Tensor:
    images = torch.rand(n, 3, 7, 5, generator=torch.Generator().manual_seed(0))
    images[0, :, 0, 0] = 0.3  # grey
    images[0, :, 0, 1] = 0  # black
    images[0, :, 0, 2] = torch.tensor([0.8, 0.8, 0.1])  # two channels are the brightest
    return images.contiguous(memory_format=torch.channels_last)


def drawn(n: int, width: float) -> list[float]:
    torch.manual_seed(1)
    return (width * (2 * torch.rand(n, 1, 1, 1) - 1)).flatten().tolist()


@pytest.mark.parametrize(
    ("name", "width", "middle", "adjust"),
    [
        ("brightness", 0.6, 1, oracle.adjust_brightness),
        ("contrast", 0.9, 1, oracle.adjust_contrast),
        ("saturation", 1.0, 1, oracle.adjust_saturation),
        ("hue", 0.5, 0, oracle.adjust_hue),
    ],
)
def test_each_equals_torchvisions_image_by_image(name: str, width: float, middle: float, adjust: Adjust) -> None:
    images = pictures()
    amounts = drawn(len(images), width)
    torch.manual_seed(1)
    ours = ColourJitter(**{name: width})(images)
    theirs = torch.stack([adjust(image, middle + amount) for image, amount in zip(images, amounts, strict=True)])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-4)  # torchvision rounds 0.299 to 0.2989
    assert min(amounts) < -0.9 * width
    assert max(amounts) > 0.5 * width
    assert float((ours - images).abs().amax()) > 0.1
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_all_together_are_one_after_another() -> None:
    images = pictures()
    widths = {"brightness": 0.3, "contrast": 0.4, "saturation": 0.5, "hue": 0.1}
    torch.manual_seed(2)
    together = ColourJitter(**widths)(images)
    torch.manual_seed(2)
    for name, width in widths.items():
        images = ColourJitter(**{name: width})(images)
    assert torch.equal(together, images)
    assert 0 <= float(together.amin()) <= float(together.amax()) <= 1


def test_grey_images_have_no_saturation_and_no_hue() -> None:
    images = torch.rand(4, 1, 6, 6)
    assert torch.equal(ColourJitter(saturation=1.0, hue=0.5)(images), images)
    torch.manual_seed(1)
    expected = (images * (1 + torch.tensor(drawn(4, 0.5)).view(4, 1, 1, 1))).clamp(0, 1)
    torch.manual_seed(1)
    torch.testing.assert_close(ColourJitter(brightness=0.5)(images), expected)
    grey = images.expand(4, 3, 6, 6)
    torch.testing.assert_close(ColourJitter(saturation=1.0, hue=0.5)(grey), grey)


@pytest.mark.parametrize(
    ("name", "amount", "most"),
    [("brightness", -0.1, 1), ("contrast", 2.0, 1), ("saturation", 1.1, 1), ("hue", 0.6, 0.5)],
)
def test_amounts_outside_are_named(name: str, amount: float, most: float) -> None:
    with pytest.raises(InputError, match=f"`{name}` must be from 0 to {most}, got {amount}"):
        ColourJitter(**{name: amount})
