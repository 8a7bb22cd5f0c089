"""`distill explain`: pictures for image files, or one message and no file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.helpers import Command
from tests.export.helpers import CLASSES, finished_run


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("runs") / "teacher", name="wrn_16_1")


@pytest.fixture
def run(tmp_path: Path, teacher: Path) -> Path:
    return finished_run(tmp_path / "runs" / "student", f"teacher.checkpoint={teacher}")


def photo(path: Path, seed: int = 0, size: tuple[int, int] = (30, 20)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def header(out: str) -> list[str]:
    return next(line.split() for line in out.splitlines() if line.strip())


def test_a_picture_and_a_table_for_every_image(distill: Command, run: Path, tmp_path: Path) -> None:
    images = [photo(tmp_path / "a" / "boot.png"), photo(tmp_path / "b" / "boot.jpg", 1), photo(tmp_path / "bag.png", 2)]
    result = distill("explain", run, *images, "--top-k", 3, "--layer", "group2", "--method", "layer_cam")
    assert result.code == 0, result.err
    written = [run / "explained" / name for name in ("boot_explained.png", "boot_explained_2.png", "bag_explained.png")]
    assert result.err.splitlines() == [str(path) for path in written]
    rows = [line.split() for line in result.out.splitlines() if "%" in line]
    assert header(result.out) == ["image", "class", "student", "teacher"]
    assert len(rows) == 9
    assert [row[0] for row in rows[::3]] == [str(image) for image in images]
    assert all(row[-1] == row[-3] == "%" and row[-5] in CLASSES for row in rows)
    shares = [float(row[-4]) for row in rows]
    assert all(shares[i] >= shares[i + 1] for i in (0, 1, 3, 4, 6, 7))
    widths = set()
    for path in written:
        with Image.open(path) as picture:
            widths.add(picture.size)
    assert len(widths) == 1
    assert written[0].read_bytes() != written[1].read_bytes()


def test_no_teacher_and_another_teacher(distill: Command, run: Path, teacher: Path, tmp_path: Path) -> None:
    image = photo(tmp_path / "bag.png")
    outs: list[tuple[str, bytes]] = []
    for given in (("--no-reference",), ("--reference", teacher), ("--class", "bag"), ("--class", 8)):
        out = tmp_path / f"out{len(outs)}"
        result = distill("explain", run, image, "--output", out, *given)
        assert result.code == 0, result.err
        outs.append((result.out, (out / "bag_explained.png").read_bytes()))
    assert "teacher" not in header(outs[0][0])
    assert "teacher" in header(outs[1][0])
    assert outs[2] == outs[3]
    assert outs[1][1] != outs[2][1]


def test_a_missing_teacher_is_left_out(distill: Command, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "student", f"teacher.checkpoint={tmp_path / 'gone'}")
    result = distill("explain", run, photo(tmp_path / "bag.png"))
    assert result.code == 0
    assert "the student is shown without its teacher: no checkpoint at " in result.message
    assert "teacher" not in header(result.out)


def test_only_pictures_by_distill_are_replaced(distill: Command, run: Path, tmp_path: Path) -> None:
    image, out = photo(tmp_path / "bag.png"), tmp_path / "out"
    for _ in range(2):
        assert distill("explain", run, image, "--output", out).code == 0
        assert files(out) == ["bag_explained.png"]
    holiday = photo(out / "bag_explained.png", 3)
    before = holiday.read_bytes()
    result = distill("explain", run, photo(tmp_path / "other.png"), image, "--output", out)
    assert result.code == 2
    assert result.message == (
        f"distill: {holiday} exists and was not made by `distill explain`; choose another folder."
    )
    assert files(out) == ["bag_explained.png"]
    assert holiday.read_bytes() == before


def test_an_input_picture_is_not_replaced(distill: Command, run: Path, tmp_path: Path) -> None:
    image = photo(tmp_path / "bag.png")
    assert distill("explain", run, image, "--output", tmp_path).code == 0
    ours = tmp_path / "bag_explained.png"
    before = ours.read_bytes()
    assert distill("explain", run, ours, image, "--output", tmp_path).code == 2
    assert ours.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{ok}", "{dir}/none.png"), "no image file {dir}/none.png; check the path."),
        (("{ok}", "{dir}"), "{dir} is a folder; give image files, for example {dir}/*.png."),
        (("{ok}", "{dir}/notes.png"), "{dir}/notes.png is not an image in a known format, or it is truncated;"),
        (("{ok}", "{dir}/cut.png", "{ok}"), "cannot decode {dir}/cut.png: "),
        (("{ok}", "--class", "sneeker"), "unknown class 'sneeker'; did you mean 'sneaker'"),
        (("{ok}", "--class", "10"), "unknown class '10'; the classes are top, trouser, "),
        (("{ok}", "--class", "-1"), "unknown class '-1'; "),
        (("{ok}", "--layer", "group7"), "student: `layer` must be one of group1, group2, final, "),
        (("{ok}", "--layer", "group2_sum"), "Raw sums (taps) have no head and cannot be explained"),
        (("{ok}", "--layer", "group2", "--method", "cam"), "images of (3, 16, 16) cannot be explained: "),
        (("{ok}", "--method", "grad_camp"), "`method` must be one of cam, grad_cam, "),
        (("{ok}", "--reference", "{dir}/nowhere"), "no checkpoint at {dir}/nowhere; give a run directory"),
        (
            ("{ok}", "--reference", "{dir}", "--no-reference"),
            "--reference and --no-reference exclude each other; give one of them.",
        ),
        (("{ok}", "--output", "{ok}"), "{ok} is a file; give a folder for the pictures."),
    ],
)
def test_wrong_input_is_one_message_and_nothing_is_written(
    distill: Command, run: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    folder = tmp_path / "images"
    names = {"ok": photo(folder / "ok.png"), "dir": folder}
    (folder / "notes.png").write_text("no image")
    cut = photo(folder / "cut.png", size=(60, 60))
    cut.write_bytes(cut.read_bytes()[:5000])
    before = files(tmp_path)
    result = distill("explain", run, *(part.format(**names) for part in arguments))
    assert result.code == 2, result.err
    assert message.format(**names) in result.message
    assert files(tmp_path) == before


def test_unfinished_run_and_other_folders(distill: Command, run: Path, tmp_path: Path) -> None:
    image = photo(tmp_path / "bag.png")
    (run / "student.safetensors").unlink()
    for folder, message in (
        (run, f"{run} holds no student.safetensors: not a run directory, or a run that has not finished yet."),
        (tmp_path, f"{tmp_path} is not a run directory: it has no config.yaml. Check the path."),
        (tmp_path / "none", f"no run directory {tmp_path / 'none'}. Check the path."),
    ):
        result = distill("explain", folder, image)
        assert (result.code, result.message) == (2, f"distill: {message}")
    assert not list(tmp_path.rglob("explained"))
