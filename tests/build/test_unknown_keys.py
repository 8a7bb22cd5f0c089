"""A misspelled key is refused in every section, with the key that was probably meant."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import distill
from distill.build import build
from distill.build.networks import load_teacher
from distill.config import TeacherSection
from distill.data import load_split
from distill.errors import InputError
from tests.e2e.helpers import Command, command
from tests.training.helpers import KD, SMALL, save_teacher, small
from tests.workflows.own import QUIET, SCALING, Net, Stripes


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("typos") / "teacher")


@pytest.fixture
def distill_command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capfd)


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("outptu_dir=a", "output_dir"),
        ("data.batch_sizee=4", "batch_size"),
        ("data.cuont=4", "count"),
        ("data.augment.flipp=false", "flip"),
        ("data.augment.colour_jitter={hu: 0.1}", "hue"),
        ("student.compil=true", "compile"),
        ("student.droput=0.1", "dropout"),
        ("student.normalisation={mean: [0, 0, 0], std: [1, 1, 1], stdd: [1]}", "std"),
        ("teacher.cahce=disk", "cache"),
        ("teacher.droput=0.1", "dropout"),
        ("teacher.normalisation={mean: [0, 0, 0], std: [1, 1, 1], maen: [1]}", "mean"),
        ("objective.soft_targets.temprature=2", "temperature"),
        ("objective.explanation.metod=grad_cam", "method"),
        ("optimizer.lrr=0.1", "lr"),
        ("schedule.gama=0.1", "gamma"),
        ("trainer.max_epoch=2", "max_epochs"),
        ("monitor.metrc=train/loss", "metric"),
        ("checkpoint.every_n_step=2", "every_n_steps"),
        ("loggers.tensorbord=true", "tensorboard"),
    ],
)
def test_a_typo_in_every_section(
    tmp_path: Path, teacher: Path, distill_command: Command, typo: str, meant: str
) -> None:
    pairs = [*SMALL, *KD, f"teacher.checkpoint={teacher}", f"output_dir={tmp_path / 'runs'}", typo]
    result = distill_command("train", *pairs)
    assert result.code == 2
    key = re.split("=", typo)[0] if "{" not in typo else typo.split("=")[0]
    assert key in result.message
    assert f"did you mean '{meant}'?" in result.message
    assert not (tmp_path / "runs").exists()


def test_a_typo_beside_a_plain_state_dict(tmp_path: Path, teacher: Path) -> None:
    weights = tmp_path / "plain.pth"
    torch.save(distill.load_model(teacher).network.state_dict(), weights)
    more = ("teacher.name=wrn_16_1", "teacher.normalisation={mean: [0, 0, 0], std: [1, 1, 1]}")
    config = small(tmp_path, *KD, f"teacher.checkpoint={weights}", *more, "teacher.compil=true")
    with pytest.raises(InputError, match=r"teacher\.compil: unknown key or option .*; did you mean 'compile'\?"):
        build(config)


def test_an_option_of_the_teacher_must_be_that_of_its_checkpoint(tmp_path: Path) -> None:
    folder = save_teacher(tmp_path / "teacher", dropout=0.2)
    data = load_split("fashion_scenes", "validation", size=16, count=10)

    def load(**options: Any) -> object:
        return load_teacher(TeacherSection.model_validate({"checkpoint": str(folder), **options}), data).spec.options

    assert load() == load(dropout=0.2) == {"dropout": 0.2}
    with pytest.raises(
        InputError, match=r"teacher\.dropout: the teacher .* was built with 0.2, got 0.5. Remove the key"
    ):
        load(dropout=0.5)


@pytest.mark.parametrize(
    ("section", "meant"),
    [
        ({"student": {"network": Net(), "compil": True}}, "compile"),
        ({"teacher": {"network": Net(), "normalisation": SCALING, "cahce": "disk"}}, "cache"),
        ({"overrides": {"data.batch_sizee": 4}}, "batch_size"),
    ],
)
def test_a_typo_beside_an_object(tmp_path: Path, section: dict[str, Any], meant: str) -> None:
    keywords: dict[str, Any] = {"student": Net(), "data": (Stripes(8), Stripes(8)), **QUIET, **section}
    with pytest.raises(InputError, match=rf"unknown key or option .*; did you mean '{meant}'\?"):
        distill.train(**keywords, output_dir=str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()
