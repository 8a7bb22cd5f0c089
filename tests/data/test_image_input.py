"""Images of every format, mode and orientation as network input."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from distill.build.teacher_cache import checksum
from distill.data import load_split, same_images
from distill.data.image_files import Canvas
from distill.data.image_input import LONGEST, Source, prepare_image
from distill.errors import InputError, InputWarning

Pixels = NDArray[np.uint8]


def quarters(width: int = 40, height: int = 24) -> Pixels:
    """Red, green / blue, white."""
    pixels = np.zeros((height, width, 3), np.uint8)
    top, left = slice(0, height // 2), slice(0, width // 2)
    bottom, right = slice(height // 2, None), slice(width // 2, None)
    pixels[top, left], pixels[top, right] = (255, 0, 0), (0, 255, 0)
    pixels[bottom, left], pixels[bottom, right] = (0, 0, 255), (255, 255, 255)
    return pixels


def seen(source: Source, *, channels: int = 3, size: int = 8, crop: bool = False) -> Tensor:
    return prepare_image(source, name="it", channels=channels, size=size, crop=crop).seen


def corners(values: Tensor) -> list[list[int]]:
    return [values[:, y, x].tolist() for y in (0, -1) for x in (0, -1)]


RGB_CORNERS = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]
GREY_CORNERS = [[76], [150], [29], [255]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_colour_of_every_kind(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("it.jpg" if mode == "CMYK" else "it.png")
    Image.fromarray(quarters()).convert(mode).save(path, quality=100)  # PNG ignores `quality`
    found = torch.tensor(corners(seen(path)))
    assert int((found - torch.tensor(RGB_CORNERS)).abs().max()) <= (3 if mode == "CMYK" else 0)
    grey = torch.tensor(corners(seen(path, channels=1)))
    assert int((grey - torch.tensor(GREY_CORNERS)).abs().max()) <= (3 if mode == "CMYK" else 1)


@pytest.mark.parametrize(("background", "value"), [("black", 0), ("white", 255)])
def test_transparent_pixels_are_shown_on_a_background(tmp_path: Path, background: Canvas, value: int) -> None:
    pixels = np.dstack([quarters(), np.full((24, 40), 255, np.uint8)])
    pixels[12:, :, 3] = 0
    pixels[:12, 20:, 3] = 128
    palette = Image.fromarray(quarters()).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    Image.fromarray(pixels).save(tmp_path / "it.png")
    palette.save(tmp_path / "palette.png", transparency=bytes([0, 0, 0, 0]))

    def found(source: Source) -> list[list[int]]:
        return corners(prepare_image(source, name="it", channels=3, size=8, crop=False, background=background).seen)

    half = [round(value * 127 / 255), round(255 * 128 / 255 + value * 127 / 255), round(value * 127 / 255)]
    for source in (tmp_path / "it.png", pixels, Image.fromarray(pixels)):
        with pytest.warns(InputWarning, match=f"transparent pixels, which are shown on {background}; .*background"):
            first, second, *rest = found(source)
        assert (first, rest) == (RGB_CORNERS[0], [[value] * 3] * 2)
        np.testing.assert_allclose(second, half, atol=1)
    with pytest.warns(InputWarning, match="transparent pixels"):
        assert found(tmp_path / "palette.png") == [[value] * 3] * 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Image.fromarray(quarters()).convert("RGBA").save(tmp_path / "opaque.png")
        assert found(tmp_path / "opaque.png") == RGB_CORNERS


@pytest.mark.filterwarnings("ignore:images have transparent pixels")
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_folder_of_transparent_images(tmp_path: Path, in_memory: bool) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGBA", (8, 8), (200, 100, 50, 0)).save(tmp_path / name / "0.png")
    options: dict[str, Any] = {"root": tmp_path, "size": 4, "validation": 0.0, "test": 0.0, "in_memory": in_memory}
    black, white = (load_split("image_folder", "train", **options, background=one) for one in ("black", "white"))
    assert (black.images[:] == 0).all()
    assert (white.images[:] == 255).all()
    assert not same_images(black.images, white.images)
    assert checksum(black) != checksum(white)
    with pytest.raises(InputError, match="`background` must be black or white, got 'red'"):
        load_split("image_folder", "train", **options, background="red")


def test_grey_of_every_depth(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 64).reshape(8, 8).round()
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / "8.png")
    Image.fromarray((ramp * 257).astype(np.uint16)).save(tmp_path / "16.png")
    Image.fromarray((ramp * 257).astype(np.int32)).save(tmp_path / "32.tif")
    for name in ("8.png", "16.png", "32.tif"):
        for channels in (1, 3):
            found = seen(tmp_path / name, channels=channels)
            np.testing.assert_array_equal(found.numpy(), np.broadcast_to(ramp, (channels, 8, 8)), err_msg=name)
    Image.fromarray(ramp > 100).save(tmp_path / "1.png")
    np.testing.assert_array_equal(seen(tmp_path / "1.png")[0].numpy(), (ramp > 100) * 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_the_camera_turned_is_upright(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(quarters())
    turn = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # as stored; the tag tells the viewer to undo it
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "it.png", exif=exif)
    found = prepare_image(tmp_path / "it.png", name="it", channels=3, size=8, crop=False)
    assert found.shown.shape == (24, 40, 3)
    assert corners(found.seen) == RGB_CORNERS


ARRAYS: list[Callable[[Pixels], Source]] = [
    lambda pixels: pixels,
    lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1),
    Image.fromarray,
    lambda pixels: np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]),
]


@pytest.mark.parametrize("make", ARRAYS)
def test_what_lies_in_memory(make: Callable[[Pixels], Source]) -> None:
    assert corners(seen(make(quarters()))) == RGB_CORNERS


def test_grey_in_memory() -> None:
    pixels = quarters()[..., 1]
    expected = [[0], [255], [0], [255]]
    for source in (pixels, pixels[..., None], torch.from_numpy(pixels), torch.from_numpy(pixels)[None]):
        assert corners(seen(source, channels=1)) == expected
        assert corners(seen(source)) == [value * 3 for value in expected]


def test_the_size_of_training_is_left_untouched() -> None:
    pixels = torch.randint(0, 256, (3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(seen(pixels, size=9), pixels)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (2000, 3), (700, 701)])
def test_any_size_and_shape(shape: tuple[int, int]) -> None:
    found = prepare_image(np.full((*shape, 3), 7, np.uint8), name="it", channels=3, size=5, crop=False)
    assert found.seen.tolist() == torch.full((3, 5, 5), 7).tolist()
    height, width = found.shown.shape[:2]
    assert max(height, width) == min(LONGEST, max(shape))
    assert min(height, width) >= 1


def test_the_square_in_the_middle() -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 200
    found = prepare_image(pixels, name="it", channels=3, size=4, crop=True)
    assert found.shown.shape == (10, 10, 3)
    assert set(found.shown.flatten().tolist()) == {200}
    assert set(found.seen.flatten().tolist()) == {200}
    assert 0 in seen(pixels, size=6).flatten().tolist()


def test_what_is_shown_has_no_colour_if_the_network_sees_none() -> None:
    found = prepare_image(quarters(), name="it", channels=1, size=4, crop=False)
    assert found.shown[0, 0].tolist() == [76, 76, 76]


def broken(path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def test_files_that_hold_no_image(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no image at all")
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    for path, message in [
        (tmp_path / "none.png", "no image file {}; check the path."),
        (tmp_path, "{} is a folder; give image files, for example {}/*.png."),
        (
            tmp_path / "notes.png",
            "{} is not an image in a known format, or it is truncated; give a PNG or JPEG file.",
        ),
        (tmp_path / "empty.jpg", "{} is not an image in a known format"),
        (broken(tmp_path / "cut.png"), "cannot decode {}: "),
        (broken(tmp_path / "cut.jpg"), "cannot decode {}: "),
        (tmp_path / "float.tif", "{} has floating-point pixels (mode F)"),
    ]:
        with pytest.raises(InputError) as caught:
            prepare_image(path, name=str(path), channels=3, size=4, crop=False)
        assert str(caught.value).startswith(message.format(path, path))


@pytest.mark.parametrize(
    "values",
    [torch.rand(3, 4, 4), torch.zeros(5, 4, 3, dtype=torch.uint8), np.zeros((0, 4), np.uint8), np.zeros(4, np.uint8)],
)
def test_values_that_are_no_image(values: Source) -> None:
    with pytest.raises(InputError, match="it must be a uint8 tensor"):
        seen(values)
