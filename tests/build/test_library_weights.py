"""`weights` of a library for the student and the teacher of a run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import distill
from distill.build import build, run_identity
from distill.errors import InputError
from distill.models import load_model
from distill.workflows.train import train_config
from tests.models.library_files import cache_timm, work_offline
from tests.training.helpers import small

NAME = "timm:tinynet_e"
STUDENT = f"student={{name: '{NAME}', weights: true}}"
TEACHER = f"teacher={{name: '{NAME}', weights: DEFAULT}}"
KD = "objective={cross_entropy: {weight: 1}, soft_targets: {weight: 1}, explanation: {weight: 1, method: grad_cam}}"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A network whose weights lie in the folder of downloads, as if they had 10 classes."""
    torch.manual_seed(3)
    network = timm.create_model("tinynet_e", num_classes=10)
    settings = timm.models.get_pretrained_cfg("tinynet_e")
    monkeypatch.setattr(settings, "num_classes", 10)
    monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda name: settings)
    cache_timm(tmp_path / "downloads", monkeypatch, NAME, network)
    monkeypatch.setattr(timm.models._builder, "resolve_pretrained_cfg", lambda *a, **k: settings)
    return network


class Record(nn.Module):
    """Returns a record with the logits, as the classifiers of Hugging Face's transformers do."""

    def __init__(self, num_classes: int = 10, weights: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.classifier = nn.Linear(6, num_classes)

    def forward(self, pixel_values: Tensor) -> Any:
        return SimpleNamespace(loss=None, logits=self.classifier(self.features(pixel_values).mean((2, 3))))


def test_a_student_starts_from_the_weights_and_is_loaded_without_them(
    tmp_path: Path, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(tmp_path, STUDENT, "data.size=32", "trainer.max_epochs=1")
    student = build(config).module.student
    own: Any = student.network
    assert torch.equal(own.conv_stem.weight, source.conv_stem.weight)
    assert torch.equal(own.classifier.weight, source.classifier.weight)
    assert student.normalise.std.flatten().tolist() == pytest.approx(list(source.pretrained_cfg["std"]))
    run = train_config(config)
    record = json.loads((run.directory / "environment.json").read_text())["starting_weights"]
    assert record == {"name": "timm:tinynet_e.in1k"}
    work_offline(tmp_path / "empty", monkeypatch)
    loaded = load_model(run.directory)
    assert torch.equal(loaded.normalise.std, student.normalise.std)
    assert train_config(config).action == "done"


def test_a_given_normalisation_is_taken(tmp_path: Path, source: Any) -> None:
    scaling = "student.normalisation={mean: [0, 0, 0], std: [1, 1, 1]}"
    student = build(small(tmp_path, "data.size=32", STUDENT, scaling)).module.student
    assert student.normalise.std.flatten().tolist() == [1.0, 1.0, 1.0]


def test_a_teacher_by_name_is_used_cached_and_found_again(tmp_path: Path, source: Any) -> None:
    pairs = ["data.size=32", TEACHER, KD, "teacher.cache=memory", "data.augment.views=1", "trainer.max_epochs=1"]
    config = small(tmp_path, *pairs)
    run = train_config(config)
    assert run.teacher is not None
    own: Any = run.teacher.network
    assert torch.equal(own.conv_stem.weight, source.conv_stem.weight)
    assert run.teacher.normalise.std.flatten().tolist() == pytest.approx(list(source.pretrained_cfg["std"]))
    shown = distill.explain_images(run, [torch.zeros(3, 32, 32, dtype=torch.uint8)], method="grad_cam")
    assert set(shown[0].maps) == {"student", "teacher"}


def test_the_classes_of_a_teacher_by_name_are_selected(tmp_path: Path, source: Any) -> None:
    pairs = ["data.size=32", TEACHER.replace("DEFAULT", "DEFAULT, classes: [1, 0, 2, 3, 4, 5, 6, 7, 8, 9]"), KD]
    run = train_config(small(tmp_path, *pairs, "trainer.max_epochs=1"))
    assert run.teacher is not None
    images = torch.rand(2, 3, 32, 32)
    own: Any = run.teacher.network
    expected = own(run.teacher.normalise(images))
    torch.testing.assert_close(run.teacher(images)[:, :2], expected[:, [1, 0]])


def test_the_default_and_its_name_are_the_same_run(tmp_path: Path) -> None:
    default, named, other, none = (
        run_identity(small(tmp_path, f"student={{name: 'timm:resnet18', weights: {weights}}}"))
        for weights in ("true", "a1_in1k", "a2_in1k", "null")
    )
    assert default == named
    assert len({default, other, none}) == 3


def test_the_weights_of_the_teacher_are_part_of_the_identity(tmp_path: Path) -> None:
    one, two = (
        run_identity(small(tmp_path, KD, f"teacher={{name: 'timm:resnet18', weights: {tag}}}"))
        for tag in ("a1_in1k", "a2_in1k")
    )
    assert one != two


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("{}", r"teacher: .*give a checkpoint, or `name` and `weights` of a library"),
        ("{weights: true}", "weights needs the name of a network"),
        ("{name: 'timm:resnet18', weights: true, checkpoint: runs/a}", "two sources of the same network"),
        ("{name: 'tests.build.test_library_weights:Record', weights: true}", r"set `normalisation: \{mean"),
        ("{name: 'timm:resnet18', weights: a9_in1k}", "unknown weights of timm:resnet18 'a9_in1k'"),
    ],
)
def test_wrong_teachers_are_refused(tmp_path: Path, teacher: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(small(tmp_path, KD, f"teacher={teacher}"))
    assert not (tmp_path / "run").exists()


def test_a_failed_download_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_offline(tmp_path / "downloads", monkeypatch)
    config = small(tmp_path, "student={name: 'torchvision:mobilenet_v3_small', weights: true}")
    with pytest.raises(InputError, match="cannot be loaded"):
        train_config(config)
    assert not config.directory.exists()


def test_a_network_that_returns_a_record_is_student_and_teacher(tmp_path: Path) -> None:
    name = f"'{__name__}:Record'"
    scaling = "normalisation: {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}"
    pairs = [f"student={{name: {name}}}", f"teacher={{name: {name}, weights: true, {scaling}}}", KD]
    run = train_config(small(tmp_path, *pairs, "trainer.max_epochs=1"))
    assert run.student(torch.rand(2, 3, 16, 16)).shape == (2, 10)
    assert run.teacher is not None


def test_a_teacher_by_name_is_a_keyword(tmp_path: Path, source: Any) -> None:
    run = distill.train(
        teacher=NAME,
        data={"size": 32, "count": 40, "batch_size": 20},
        student="wrn_10_1",
        explanation={"method": "grad_cam"},
        epochs=1,
        output_dir=str(tmp_path),
        trainer={"enable_progress_bar": False, "accelerator": "cpu"},
        loggers={"tensorboard": False},
    )
    assert run.config.teacher is not None
    assert run.config.teacher.source == f"{NAME} (weights: True)"
