"""Classes with no image or one image are named; a data set of a single class is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import distill
from distill.build import Objects, build
from distill.data import ImageSet
from distill.errors import InputError, InputWarning
from tests.e2e.helpers import QUIET, command
from tests.evaluation.checks import image_set, network, record_of
from tests.training.helpers import small
from tests.workflows.own import QUIET as QUIET_KEYS


def images(*labels: int, classes: tuple[str, ...] = ("cat", "cow", "dog")) -> ImageSet:
    return ImageSet(torch.randint(256, (len(labels), 3, 16, 16), dtype=torch.uint8), torch.tensor(labels), classes)


def test_a_single_class_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    data = images(*[0] * 20, classes=("all",))
    with pytest.raises(InputError, match=r"the data set .*ImageSet has a single class, 'all'; a classifier needs two"):
        distill.train(student="wrn_10_1", data=(data, data), output_dir=str(tmp_path / "runs"), **QUIET_KEYS)
    assert not (tmp_path / "runs").exists()


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    data = images(*[0, 1, 2] * 8)
    with pytest.raises(InputError, match="the split validation of the data set fashion_scenes has no images"):
        build(small(tmp_path), Objects(train=data, validation=data.subset([])))


def test_classes_with_too_few_images_are_named(tmp_path: Path) -> None:
    train, validation = images(*[0] * 20, 2), images(*[0] * 4, 1)
    with pytest.warns(InputWarning) as caught:
        build(small(tmp_path), Objects(train=train, validation=validation))
    assert [str(one.message) for one in caught if issubclass(one.category, InputWarning)] == [
        "the split train of the data set fashion_scenes has no image of class 'cow': the network cannot learn to "
        "predict them; and only one image of class 'dog'. Add images, or remove these classes.",
        "the split validation of the data set fashion_scenes has no image of class 'dog': nothing is measured for "
        "them. Add images, or remove these classes.",
    ]


def test_classes_without_test_images_are_named() -> None:
    data = image_set()
    with pytest.warns(InputWarning, match=r"test set '.*' has no image of the classes '.*', '.*': nothing is measured"):
        record_of({"teacher": network(1)}, data.subset((data.labels == 0).nonzero()[:, 0]))


def test_a_command_prints_each_warning_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, count in (("cat", 20), ("cow", 3), ("dog", 20)):
        for i in range(count):
            (tmp_path / "pets" / name).mkdir(parents=True, exist_ok=True)
            Image.effect_noise((16, 16), 60).save(tmp_path / "pets" / name / f"{i}.png")
    (tmp_path / "pets" / "cow" / "a.heic").write_text("")
    keys = f"data={{name: image_folder, root: {tmp_path / 'pets'}, size: 16, batch_size: 16}}"
    result = command(monkeypatch, capfd)(
        "train", keys, "student.name=wrn_10_1", "trainer.max_epochs=1", f"output_dir={tmp_path / 'runs'}", *QUIET
    )
    assert result.code == 0
    assert [line for line in result.err.splitlines() if "warning" in line] == [
        f"distill: warning: {tmp_path / 'pets'}: image files of formats that are not read are skipped (1 .heic). "
        "Convert them to PNG or JPEG; files .jfif and .jpe only need the ending .jpg.",
        "distill: warning: the split validation of the data set image_folder has no image of class 'cow': nothing is "
        "measured for them. Add images, or remove these classes.",
    ]
