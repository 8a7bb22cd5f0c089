"""Teacher, student and data set must name the same classes in the same order."""

from __future__ import annotations

from pathlib import Path

import pytest

import distill
from distill.build import build
from distill.build.networks import build_student
from distill.data.fashion_items import CLASSES
from distill.errors import InputError
from distill.models import create_model
from tests.training.helpers import KD, save_teacher, small
from tests.workflows.own import QUIET, Stripes

SWAPPED = (CLASSES[1], CLASSES[0], *CLASSES[2:])


def test_a_teacher_with_the_same_classes_in_another_order_is_refused(tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path / "teacher", classes=SWAPPED)
    config = small(tmp_path, *KD, f"teacher.checkpoint={teacher}")
    message = f"the teacher and the data set fashion_scenes have different classes: class 0 is '{CLASSES[1]}' and "
    with pytest.raises(InputError, match=message):
        build(config)
    assert not config.directory.exists()


@pytest.mark.parametrize("classes", [CLASSES, ()])
def test_a_teacher_with_equal_or_without_names_is_taken(tmp_path: Path, classes: tuple[str, ...]) -> None:
    teacher = save_teacher(tmp_path / "teacher", classes=classes)
    assert build(small(tmp_path, *KD, f"teacher.checkpoint={teacher}")).module.teacher is not None


def test_a_student_object_with_other_classes_is_refused(tmp_path: Path) -> None:
    network = create_model("wrn_10_1", num_classes=10, classes=SWAPPED)
    data = distill.data.load_split("fashion_scenes", "validation", size=16, count=20)
    with pytest.raises(InputError, match="the student and the data set fashion_scenes have different classes: class 0"):
        build_student(small(tmp_path), data, network)


def test_validation_data_with_the_classes_in_another_order_are_refused(tmp_path: Path) -> None:
    other = Stripes(8)
    other.classes = ("right", "left")
    with pytest.raises(InputError, match="training and validation data have different classes: class 0 is 'left' and"):
        distill.train(student="wrn_10_1", data=(Stripes(8), other), output_dir=str(tmp_path / "runs"), **QUIET)
    assert not (tmp_path / "runs").exists()
