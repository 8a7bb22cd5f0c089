"""Every preset in configs/ trains, on small data of the same form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torchvision.datasets as torchvision_datasets

from distill.models import load_model
from tests.data.test_datasets import write_cifar
from tests.e2e.helpers import QUIET, Command

CONFIGS = Path(__file__).parents[2] / "configs"
PAPER = sorted(path.stem for path in (CONFIGS / "paper").glob("*.yaml"))
DEMO = sorted(path.stem for path in (CONFIGS / "demo").glob("*.yaml"))
ONE_EPOCH = ("trainer.max_epochs=1", "trainer.accelerator=cpu", *QUIET)


def train_after_its_teacher(distill: Command, folder: str, preset: str, *pairs: str) -> None:
    """Train the teacher and, if the preset is a student, the student, with small networks and data."""
    small = ("student.name=wrn_10_1", *ONE_EPOCH, *pairs)
    config = (CONFIGS / folder / f"{preset}.yaml").read_text()
    if preset != "teacher":
        result = distill("train", CONFIGS / folder / "teacher.yaml", *small)
        assert result.code == 0, result.err
    result = distill("train", CONFIGS / folder / f"{preset}.yaml", *small)
    assert result.code == 0, result.err
    name = "run" if preset == "base" else preset
    assert load_model(Path("runs") / folder / name).spec.num_classes == 10
    assert "#" in config


@pytest.mark.slow
@pytest.mark.parametrize("preset", PAPER)
def test_presets_of_the_paper(distill: Command, preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_cifar(tmp_path / "data", torchvision_datasets.CIFAR10, monkeypatch)
    train_after_its_teacher(distill, "paper", preset, "data.batch_size=40", "schedule.milestones=[1]")


@pytest.mark.slow
@pytest.mark.parametrize("preset", DEMO)
def test_presets_of_the_demo(distill: Command, preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train_after_its_teacher(distill, "demo", preset, "data.count={train: 64, validation: 32}", "data.batch_size=32")


def test_presets_are_all_rows_of_the_table() -> None:
    rows = {"ce", "ce_grad_cam", "ce_grad_cam_pp", "ce_kd", "ce_kd_grad_cam", "ce_kd_grad_cam_pp"}
    assert rows | {"base", "teacher"} | {f"{row}_normalised" for row in rows if "cam" in row} == set(PAPER)
