"""Data sets that a function of the user returns, by name in the configuration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import distill
from distill.build import load_images
from distill.config import load
from distill.data import ImageSet, as_image_set, load_split, partition
from distill.errors import InputError
from distill.untrusted import Trust
from tests.data.own_sets import Shades
from tests.e2e.helpers import QUIET, Command, command

SETS = "tests.data.own_sets"


@pytest.fixture
def distill_command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capfd)


def numbers(data: ImageSet) -> list[int]:
    """Return the number of each image, from its grey value and label."""
    return [int(image[0, 0, 0]) - 60 * label for image, label in zip(data.images, data.labels.tolist(), strict=True)]


def test_one_data_set_is_divided_by_fractions() -> None:
    options: dict[str, Any] = {"count": 60, "validation": 0.2, "test": 0.1, "seed": 4}
    found = {split: load_split(f"{SETS}:single", split, **options) for split in ("train", "validation", "test")}
    parts = partition(torch.arange(60) % 3, seed=4, validation=0.2, test=0.1)
    for split, data in found.items():
        assert numbers(data) == parts[split].tolist()
        assert data.classes == ("dark", "grey", "bright")
    assert len(load_split(f"{SETS}:single", "validation")) == 6
    assert load_split(f"{SETS}:single", "train", names=False).classes == ("0", "1", "2")
    assert load_split(f"{SETS}:single", "train", names=False, classes=["a", "b", "c", "d"]).classes[3] == "d"


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("triple", {"count": 30}, {"train": range(30), "validation": range(30, 42), "test": range(9)}),
        ("mapping", {}, {"train": range(30), "validation": range(30, 39), "test": range(40, 46)}),
        ("by_split", {"seed": 3, "any": 1}, {"train": range(15), "validation": range(30, 45)}),
    ],
)
def test_a_data_set_per_split(name: str, options: dict[str, Any], expected: dict[str, range]) -> None:
    for split, wanted in expected.items():
        assert numbers(load_split(f"{SETS}:{name}", split, **options)) == list(wanted)


def test_class_names_of_the_training_set_hold_for_all_splits() -> None:
    assert load_split(f"{SETS}:unnamed_splits", "validation").classes == ("0", "1", "2")
    assert load_split(f"{SETS}:by_split", "validation", names=False).classes == ("0", "1", "2")


def test_boxes_and_masks_come_along() -> None:
    data = load_split(f"{SETS}:single", "train", objects=2, validation=0.0, test=0.0)
    assert data.boxes is not None
    assert data.masks is not None
    assert data.boxes[0].tolist() == [[0, 0, 4, 5], [0, 0, 0, 0]]
    assert data.boxes[1].tolist() == [[0, 0, 4, 5], [0, 0, 5, 5]]
    assert data.masks.dtype == torch.uint8
    assert data.masks.sum((1, 2)).tolist() == [16] * 60
    only_boxes = load_split(f"{SETS}:single", "test", objects=1)
    assert only_boxes.boxes is not None
    assert only_boxes.masks is None
    assert only_boxes.boxes[:, 0].tolist() == [[0, 0, 4, 5]] * 6


IMAGE = torch.zeros(3, 8, 8)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (([[0, 0, 4]],), r"data\[1\]: expected boxes of shape \(M, 4\), got \(1, 3\)"),
        (([[4, 0, 2, 4]],), r"expected boxes \(x0, y0, x1, y1\) in pixels of an image 8 wide and 8 high, got \[4.0, 0"),
        (([[9, 0, 12, 4]],), "in pixels of an image 8 wide"),
        ((["left"],), r"data\[1\]: boxes: expected numbers, got list"),
        ((None, np.zeros((8, 4), int)), r"expected a mask of whole numbers \(H, W\) = \(8, 8\), .* got int64 \(8, 4\)"),
        ((None, np.zeros((8, 8))), r"got float64 \(8, 8\)"),
        ((None, np.full((8, 8), 300)), "from 0 to 255 in the mask, got 300"),
        ((None, None, None), r"expected \(image, label\), got 5 values; boxes and masks may follow"),
    ],
)
def test_wrong_boxes_and_masks_are_named(rest: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_image_set([(IMAGE, 0), (IMAGE, 1, *rest)])


def test_items_without_boxes_may_be_among_those_with_boxes() -> None:
    data = as_image_set([(IMAGE, 0, None), (IMAGE, 1, [1, 2, 3, 4]), (IMAGE, 0, torch.zeros(0, 4)), (IMAGE, 1)])
    assert data.boxes is not None
    assert data.boxes[:, 0].tolist() == [[0] * 4, [1, 2, 3, 4], [0] * 4, [0] * 4]


def test_a_set_that_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.data.torch_dataset.free_memory", lambda: 10_000)
    with pytest.raises(InputError, match=r"the images need .* GB of memory while they are read"):
        as_image_set(Shades(range(60)))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("singel", {}, "data.name: module tests.data.own_sets: unknown function 'singel'; did you mean 'single'"),
        ("VALUE", {}, "data.name: tests.data.own_sets:VALUE is not a function or class, but a int"),
        (
            "single",
            {"cuont": 3},
            "data.cuont: unknown argument of tests.data.own_sets:single 'cuont'; did you mean 'count'",
        ),
        ("broken", {}, "data.name: tests.data.own_sets:broken failed with KeyError: 'photos'"),
        ("misnamed", {}, "unknown split 'trian'; did you mean 'train'"),
        ("no_data", {}, "expected a data set with a length that can be indexed, got int"),
        (
            "triple",
            {"validation": 0.2},
            "data.validation: tests.data.own_sets:triple returns a data set for each split",
        ),
        ("Shades", {}, "data.numbers: tests.data.own_sets:Shades requires this argument"),
    ],
)
def test_a_mistake_is_one_message(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_split(f"{SETS}:{name}", "train", **options)


def test_a_missing_split_or_module_is_named() -> None:
    with pytest.raises(InputError, match="returns no data set for the split test; return one"):
        load_split(f"{SETS}:triple", "test", with_test=False)
    with pytest.raises(InputError, match="returns no data set for the split test; return one"):
        load_split(f"{SETS}:by_split", "test")
    with pytest.raises(InputError, match="module no_such_module cannot be imported: ModuleNotFoundError"):
        load_split("no_such_module:make", "train")
    with pytest.raises(InputError, match="unknown split 'trian'"):
        load_split(f"{SETS}:single", "trian")


def test_a_name_is_imported_only_if_it_is_trusted() -> None:
    section = load([], [f"data.name={SETS}:single"]).data
    with pytest.raises(
        InputError, match=r"data.name asks to import .*name it with `--data tests.data.own_sets:single`"
    ):
        load_images(section, "train")
    assert len(load_images(section, "train", trust=Trust(frozenset({f"{SETS}:single"})))) == 48
    assert len(load_images(section, "train", trust=True)) == 48


OWN = """
from pathlib import Path
Path(__file__).with_name("executed").touch()
from tests.data.own_sets import Shades

def make(count=30):
    return Shades(range(count), objects=1), Shades(range(30, 42), objects=1), Shades(range(42, 54), objects=1)
"""
FAST = ("--perturbed", 0, "--explained", 0, "--no-sanity", "--gallery", 0)


def test_a_run_trains_and_strangers_runs_import_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distill_command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos_of_mine.py").write_text(OWN)
    (tmp_path / "mine.yaml").write_text("data: {name: 'photos_of_mine:make', count: 24, batch_size: 6}\n")
    pairs = ["student.name=wrn_10_1", "trainer.max_epochs=1", "trainer.accelerator=cpu", *QUIET]
    wrong = distill_command("train", "mine.yaml", *pairs, "data.cuont=3")
    assert (wrong.code, "did you mean 'count'" in wrong.message) == (2, True)
    assert not (tmp_path / "runs").exists()
    assert distill_command("train", "mine.yaml", *pairs).code == 0
    (tmp_path / "executed").unlink()
    monkeypatch.delitem(sys.modules, "photos_of_mine")
    commands: list[tuple[Any, ...]] = [
        ("evaluate", "runs/run", *FAST),
        ("export", "runs/run", "--format", "pt2", "--limit", 4),
    ]
    for arguments in commands:
        refused = distill_command(*arguments)
        assert refused.code == 2
        assert "runs/run/config.yaml asks to import 'photos_of_mine:make'" in refused.message
        assert "`--data photos_of_mine:make`" in refused.message
        assert distill_command(*arguments, "--data", "others:make").code == 2
        assert not (tmp_path / "executed").exists()
    assert distill_command(*commands[0], "--data", "photos_of_mine:make").code == 0
    assert (tmp_path / "executed").exists()
    assert distill_command(*commands[1], "--trust").code == 0


def test_python_keeps_the_trust_of_its_own_run(tmp_path: Path) -> None:
    run = distill.train(
        data={"name": f"{SETS}:triple", "count": 24, "batch_size": 6},
        student="wrn_10_1",
        epochs=1,
        output_dir=str(tmp_path),
        overrides=[*QUIET, "trainer.accelerator=cpu"],
    )
    assert distill.evaluate(run, gallery=0, device="cpu").record["sets"]["test"]["n"] == 9
    with pytest.raises(InputError, match="asks to import"):
        distill.evaluate(run.directory, gallery=0, device="cpu")
    named = distill.evaluate(run.directory, data=f"{SETS}:triple", gallery=0, device="cpu")
    assert named.record["sets"]["test"]["n"] == 9
