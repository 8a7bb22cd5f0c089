"""Preflight checks find errors before training that would otherwise appear after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distill.ablation.run import plan, run_ablation
from distill.build import load_images
from distill.config import DataSection
from distill.data import ImageSet
from distill.errors import InputError
from tests.training.helpers import save_teacher

TINY = Path(__file__).parents[2] / "configs" / "ablation" / "tiny.yaml"
TERM = "rows.CE + KD + Grad-CAM++.objective.explanation"


@pytest.fixture(autouse=True)
def no_run_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.ablation.run.make_executor", lambda *_, **__: pytest.fail("a run was started"))


def errors_of(folder: Path, *pairs: str) -> list[str]:
    ablation = plan(TINY, [f"output_dir={folder}", *pairs])
    with pytest.raises(InputError) as error:
        run_ablation(ablation)
    return str(error.value).split("\n  ")[1:]


def test_an_invalid_option_of_a_test_set(tmp_path: Path) -> None:
    (line,) = errors_of(tmp_path, "test_sets.unbiased.background=unbiasd")
    assert line.startswith("test_sets.unbiased: ")
    assert "unbiasd" in line


def test_a_map_layer_that_the_teacher_does_not_have(tmp_path: Path) -> None:
    (line,) = errors_of(
        tmp_path, "teacher.overrides.student.name=resnet18", "maps.layer=group2", f"{TERM}.teacher_layer=final"
    )
    assert line.startswith("network 'teacher': unknown layer 'group2'")


def test_an_unknown_teacher_layer_of_a_term(tmp_path: Path) -> None:
    (line,) = errors_of(tmp_path, f"{TERM}.teacher_layer=groop2")
    assert line.startswith("objective.explanation: layer of the teacher: `layer` must be one of")
    assert "'groop2'" in line


def test_a_teacher_with_other_classes(tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path / "five", num_classes=5)
    (line,) = errors_of(tmp_path, "teacher=null", f"overrides.teacher.checkpoint={teacher}")
    assert "the teacher has 5 classes, but the data set has 10. Name the teacher's class" in line


def test_metrics_that_need_boxes_or_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_without_objects(section: DataSection, split: str, **changes: Any) -> ImageSet:
        data = load_images(section, split, **changes)
        return ImageSet(data.images, data.labels, data.classes)

    monkeypatch.setattr("distill.ablation.preflight.load_images", load_without_objects)
    metrics = "metrics=[unbiased/accuracy,unbiased/pointing_game,unbiased/energy_in_object]"
    assert sorted(errors_of(tmp_path, metrics)) == [
        f"metrics: 'unbiased/{metric}' needs boxes or masks, but data set fashion_scenes has none"
        for metric in ("energy_in_object", "pointing_game")
    ]


def test_a_teacher_that_cannot_be_built_is_reported_when_planning(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"teacher: student: .*wrn_40_z"):
        plan(TINY, [f"output_dir={tmp_path}", "teacher.overrides.student.name=wrn_40_z"])


def test_a_test_set_cannot_be_called_validation(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="test_sets: 'validation' is reserved for the metric validation/accuracy"):
        plan(TINY, [f"output_dir={tmp_path}", "test_sets.validation={}"])


def test_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^output_dir: cannot create .*file/tiny"):
        run_ablation(plan(TINY, [f"output_dir={tmp_path / 'file'}"]))
