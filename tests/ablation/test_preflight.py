"""What would be found after the training is found before it, in one message."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.ablation.run import ablate, plan
from distill.build import load_images
from distill.config import DataSection
from distill.data import ImageSet
from distill.errors import InputError
from tests.training.helpers import save_teacher

TINY = Path(__file__).parents[2] / "configs" / "ablation" / "tiny.yaml"
TERM = "rows.CE + KD + Grad-CAM++.objective.explanation"


@pytest.fixture(autouse=True)
def nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.ablation.run.make_executor", lambda *_, **__: pytest.fail("it began"))


def told(folder: Path, *pairs: str) -> list[str]:
    ablation = plan(TINY, [f"output_dir={folder}", *pairs])
    with pytest.raises(InputError) as error:
        ablate(ablation)
    return str(error.value).split("\n  ")[1:]


def test_a_value_of_a_test_set(tmp_path: Path) -> None:
    (line,) = told(tmp_path, "test_sets.unbiased.background=unbiasd")
    assert line.startswith("test_sets.unbiased: ")
    assert "unbiasd" in line


def test_a_layer_that_the_teacher_lacks(tmp_path: Path) -> None:
    (line,) = told(
        tmp_path, "teacher.overrides.student.name=resnet18", "maps.layer=group2", f"{TERM}.teacher_layer=final"
    )
    assert line.startswith("network 'teacher': unknown layer 'group2'")


def test_a_layer_of_the_teacher_that_a_term_names(tmp_path: Path) -> None:
    (line,) = told(tmp_path, f"{TERM}.teacher_layer=groop2")
    assert line.startswith("objective.explanation: the teacher: `layer` must be one of")
    assert "'groop2'" in line


def test_a_teacher_of_other_classes(tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path / "five", num_classes=5)
    (line,) = told(tmp_path, "teacher=null", f"overrides.teacher.checkpoint={teacher}")
    assert "networks 'student' and 'teacher' have different classes" in line


def test_figures_of_objects_that_the_images_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(section: DataSection, split: str, **changes: object) -> ImageSet:
        data = load_images(section, split, **changes)
        return ImageSet(data.images, data.labels, data.classes)

    monkeypatch.setattr("distill.ablation.preflight.load_images", without)
    metrics = "metrics=[unbiased/accuracy,unbiased/pointing_game,unbiased/energy_in_object]"
    assert sorted(told(tmp_path, metrics)) == [
        f"metrics: 'unbiased/{figure}' needs boxes or masks, and fashion_scenes has none"
        for figure in ("energy_in_object", "pointing_game")
    ]


def test_a_teacher_that_cannot_be_built_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"teacher: student: .*wrn_40_z"):
        plan(TINY, [f"output_dir={tmp_path}", "teacher.overrides.student.name=wrn_40_z"])


def test_no_test_set_is_called_as_the_validation_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="test_sets: none can be called validation"):
        plan(TINY, [f"output_dir={tmp_path}", "test_sets.validation={}"])


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^output_dir: .*file/tiny cannot be made"):
        ablate(plan(TINY, [f"output_dir={tmp_path / 'file'}"]))
