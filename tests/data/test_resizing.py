"""Images that are not square, of any mode, or damaged."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import distill
from distill.data import load_split
from distill.data.resizing import fit, fit_boxes, place
from distill.errors import InputError, InputWarning
from tests.e2e.helpers import QUIET


def write(path: Path, image: Image.Image, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def split(root: Path, name: str = "train", **options: Any) -> distill.data.ImageSet:
    return load_split("image_folder", name, **{"root": root, "size": 8, "test": 0.0, **options})


def halves(width: int, height: int) -> Image.Image:
    """Return an image whose left half is red and whose right half is blue."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 255
    pixels[:, width // 2 :, 2] = 255
    return Image.fromarray(pixels)


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    for name in ("ant", "bee"):
        for i in range(4):
            write(tmp_path / name / f"{i}.png", halves(64, 16))
    return tmp_path


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("background", ["black", "white"])
def test_a_padded_image_is_a_band_on_the_background(wide: Path, in_memory: bool, background: str) -> None:
    data = split(wide, size=16, resize="pad", background=background, in_memory=in_memory)
    image = data.images[0]
    assert image[:, 7, 2].tolist() == [255, 0, 0]
    assert image[:, 8, 13].tolist() == [0, 0, 255]
    rows = torch.cat([image[:, :6], image[:, 10:]], dim=1)  # 64 x 16 becomes 16 x 4, in rows 6 to 9
    assert rows.unique().tolist() == [0 if background == "black" else 255]


@pytest.mark.parametrize("resize", ["crop", "squeeze"])
def test_cropped_and_squeezed_images_are_those_of_pil(wide: Path, resize: str) -> None:
    source = halves(64, 16)
    if resize == "crop":
        source = source.crop((24, 0, 40, 16))
    expected = np.asarray(source.resize((8, 8), Image.Resampling.BICUBIC)).astype(int)
    actual = split(wide, resize=resize).images[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(actual - expected).max() <= 1


@pytest.mark.parametrize("resize", ["crop", "squeeze", "pad"])
@pytest.mark.parametrize(("width", "height"), [(40, 20), (21, 40), (13, 13), (3, 200)])
def test_boxes_move_with_the_pixels(resize: Any, width: int, height: int) -> None:
    box = (width // 3, height // 4, width // 3 + max(1, width // 3), height // 4 + max(1, height // 3))
    pixels = torch.zeros(height, width, 1, dtype=torch.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    size = 40
    image = fit(pixels, size=size, resize=resize, background="black")[0]
    x0, y0, x1, y1 = fit_boxes(np.array([box], float), np.array([[width, height]]), size=size, resize=resize)[0, 0]
    (left, top, wide, high), (_, _, w, h) = place(width, height, size=size, resize=resize)
    inside = max(box[0], left) < min(box[2], left + wide) and max(box[1], top) < min(box[3], top + high)
    assert inside == bool(x1 > x0 and y1 > y0)
    if inside:
        bright = (image > 200).nonzero()
        margin = max(w / wide, h / high) + 1
        for low, high_end, axis in ((y0, y1, 0), (x0, x1, 1)):
            if len(bright):
                assert low <= bright[:, axis].min() <= low + margin
                assert high_end - 1 >= bright[:, axis].max() >= high_end - 1 - margin


def test_boxes_that_are_missing_or_outside_are_empty() -> None:
    boxes = np.array([[np.nan] * 4, [0, 0, 5, 5], [-5, -5, 400, 400]])
    moved = fit_boxes(boxes, np.array([[40, 20]] * 3), size=10, resize="crop")
    assert moved[:, 0].tolist() == [[0] * 4, [0] * 4, [0, 0, 10, 10]]


MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I")


@pytest.mark.parametrize("mode", MODES)
def test_grey_of_every_mode_is_the_same_grey(tmp_path: Path, mode: str) -> None:
    values = np.full((12, 12), 255 if mode == "1" else 100, np.uint8)
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16) * 257)
    elif mode == "I":
        image = Image.fromarray(values.astype(np.int32) * 257)
    elif mode == "CMYK":
        image = Image.fromarray(values).convert("RGB").convert("CMYK")
    else:
        image = Image.fromarray(values).convert(mode)
    for name in ("ant", "bee"):
        write(tmp_path / name / ("0.tif" if mode in ("CMYK", "I") else "0.png"), image)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = split(tmp_path, validation=0.0)
    assert data.images.unique().tolist() == [255 if mode == "1" else 100]


def test_exif_orientation_is_applied_before_the_image_is_padded(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side: turn it by 90 degrees clockwise
    for name in ("ant", "bee"):
        write(tmp_path / name / "0.jpg", halves(64, 16), exif=exif, quality=95)
    image = split(tmp_path, size=16, resize="pad", validation=0.0).images[0].int()
    assert image[0, 3, 8] > 200
    assert image[2, 12, 8] > 200
    assert image[:, :, :5].max() < 30


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A folder with 12 good and 3 bad images in each of two classes."""
    generator = np.random.default_rng(0)
    root = tmp_path / "photos"
    for name in ("ant", "bee"):
        for i in range(12):
            write(root / name / f"{i:02}.png", Image.fromarray(generator.integers(0, 256, (16, 16, 3), np.uint8)))
        whole = (root / name / "00.png").read_bytes()
        (root / name / "90.png").write_bytes(whole[: len(whole) // 2])
        (root / name / "91.png").write_bytes(b"no image")
        (root / name / "92.jpg").write_bytes(b"")
    return root


@pytest.mark.parametrize("in_memory", [True, False])
def test_damaged_files_are_left_out_and_counted(damaged: Path, in_memory: bool) -> None:
    options: dict[str, Any] = {"on_error": "skip", "in_memory": in_memory, "validation": 0.2, "test": 0.2}
    with pytest.warns(InputWarning, match="cannot be decoded and are skipped") as caught:
        sets = {name: split(damaged, name, **options) for name in ("train", "validation", "test")}
    assert sum(len(one) for one in sets.values()) == 24
    skipped = [path for one in sets.values() for path in one.skipped]
    assert sorted(Path(path).name for path in skipped) == ["90.png", "90.png", "91.png", "91.png", "92.jpg", "92.jpg"]
    shown = " ".join(str(one.message) for one in caught)
    assert all(path in shown for path in skipped)
    for one in sets.values():
        assert len(one.images[:]) == len(one.labels) == len(one)
    for name in ("ant", "bee"):  # the good images stay in the splits in which they were
        for bad in ("90.png", "91.png", "92.jpg"):
            (damaged / name / bad).write_bytes((damaged / name / "00.png").read_bytes())
    whole = split(damaged, **options)
    kept = {image.numpy().tobytes() for image in sets["train"].images[:]}
    assert kept <= {image.numpy().tobytes() for image in whole.images[:]}


def test_without_skip_a_damaged_file_is_an_error_that_names_the_option(damaged: Path) -> None:
    with pytest.raises(InputError, match=r"cannot decode .*9\d\.(png|jpg): .*`data\.on_error=skip`"):
        split(damaged, in_memory=True, validation=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": "squeze"}, "`resize` must be crop, squeeze or pad, got 'squeze'; did you mean 'squeeze'?"),
        ({"on_error": "ignore"}, "`on_error` must be fail or skip, got 'ignore'."),
        ({"size": 8.5}, "`size` must be a whole number of pixels, got 8.5."),
    ],
)
def test_wrong_options_are_named(wide: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        split(wide, **options)
    assert str(caught.value) == message


def test_the_record_of_a_run_counts_skipped_images(damaged: Path, tmp_path: Path) -> None:
    with pytest.warns(InputWarning, match="cannot be decoded"):
        run = distill.train(
            data={"name": "image_folder", "root": str(damaged), "size": 16, "on_error": "skip", "batch_size": 4},
            student="wrn_10_1",
            epochs=1,
            output_dir=str(tmp_path / "runs"),
            overrides=[*QUIET, "trainer.accelerator=cpu", "data.validation=0.2", "data.test=0.2"],
        )
    record = json.loads((run.directory / "environment.json").read_text())
    with pytest.warns(InputWarning, match="cannot be decoded"):
        sets = {
            name: load_split("image_folder", name, root=damaged, size=16, on_error="skip", validation=0.2, test=0.2)
            for name in ("train", "validation")
        }
    assert record["skipped_images"] == {name: len(one.skipped) for name, one in sets.items() if one.skipped}
