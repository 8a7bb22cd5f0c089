"""Wrong input gives one message and exit code 2, and no file is overwritten."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from distill.models import create_model
from tests.e2e.helpers import QUIET, SMALL, TINY, Command, CommandResult
from tests.training.helpers import save_teacher


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("teacher"), "wrn_10_1")


@pytest.fixture
def error_message(distill: Command, tmp_path: Path) -> Any:
    """Run `distill train` with wrong input, check that no file is written, and return the message."""

    def train(*pairs: str) -> str:
        result: CommandResult = distill("train", TINY, *SMALL, *QUIET, f"output_dir={tmp_path / 'runs'}", *pairs)
        assert result.code == 2, result.err
        assert result.err.startswith("distill: ")
        assert not (tmp_path / "runs").exists()
        return result.message.removeprefix("distill: ")

    return train


def test_several_mistakes_at_once(error_message: Any) -> None:
    assert error_message("optimizer.momentun=0.5", "seed=x", "trainer.max_epoch=3", "trainer.logger=true") == (
        "4 mistakes in the configuration: "
        "optimizer.momentun: unknown key; did you mean 'momentum'? "
        "seed: input should be a valid integer, unable to parse string as an integer, got 'x' "
        "trainer.logger: this argument is set by distill; remove the key "
        "trainer.max_epoch: unknown key 'max_epoch'; did you mean 'max_epochs'?"
    )


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("data.name=fashion_scene", "unknown data set 'fashion_scene'; did you mean 'fashion_scenes'? (known: "),
        (
            "data.cuont=3",
            "data.cuont: unknown key or option of data set fashion_scenes 'cuont'; did you mean 'count'? (known: ",
        ),
        ("student.name=wrn_10_z", "unknown model 'wrn_10_z'"),
        (
            "student.dropuot=0.3",
            "student.dropuot: unknown key or option of network wrn_10_1 'dropuot'; did you mean 'dropout'",
        ),
        ("data.batch_size=33", "`batch_size` is 33, but there are only 32 training images: take a smaller batch or "),
        ("trainer.accelerator=tpuu", "trainer: "),
        ("trainer.precision=33", "trainer: "),
        ("trainer.max_epochs=none", "a mistake in the configuration: trainer: max_epochs should be a whole number"),
        ("monitor.metric=accuracy", "monitor.metric: unknown metric 'accuracy'"),
        (
            "data.augment=[RandAugment]",
            "data.augment.transforms[0]: RandAugment cannot take the boxes and masks of these images along (",
        ),
        (
            "data.augment={transforms: [{RandomCrop: {sise: 8}}, Normalize], objects: drop}",
            "2 mistakes in data.augment.transforms: data.augment.transforms[0].RandomCrop.sise: unknown argument of ",
        ),
        (
            "data.augment=[{RandomRotation: {degrees: 40, expand: true}}]",
            "data.augment.transforms[0]: RandomRotation gives images of different sizes (",
        ),
        ("none.yaml", "no configuration file none.yaml."),
        ("data", "expected key=value, got 'data'; a configuration file must end in .yaml or .yml."),
    ],
)
def test_invalid_names_and_values(error_message: Any, pair: str, message: str) -> None:
    assert error_message(pair).startswith(message)


def test_a_layer_that_does_not_exist(error_message: Any, teacher: Path) -> None:
    objective = "objective={explanation: {layer: group7}}"
    assert error_message(f"teacher.checkpoint={teacher}", objective).startswith(
        "student: `layer` must be one of group1, group2, final, group1_sum, group2_sum, group3_sum for wrn_10_1, or "
    )


def test_a_teacher_with_other_classes(error_message: Any, tmp_path: Path) -> None:
    other = save_teacher(tmp_path / "other", "wrn_10_1", num_classes=7)
    message = error_message(f"teacher.checkpoint={other}")
    assert message.startswith(
        "the teacher has 7 classes, but fashion_scenes has 10. Name the teacher's class for each class of the data, "
        "`teacher.classes: {"
    )
    assert "or set `teacher.classes=own`" in message


def test_a_teacher_with_another_architecture(error_message: Any, teacher: Path) -> None:
    message = error_message(f"teacher={{checkpoint: {teacher}, name: wrn_16_2}}")
    assert message == f"{teacher}/student.safetensors holds a wrn_10_1, but the configuration asks for 'wrn_16_2'."


def test_a_missing_teacher(error_message: Any, tmp_path: Path) -> None:
    assert error_message(f"teacher.checkpoint={tmp_path / 'none'}") == (
        f"teacher.checkpoint: {tmp_path / 'none'} does not exist. Train a teacher first, or correct the path."
    )
    (tmp_path / "empty").mkdir()
    assert error_message(f"teacher.checkpoint={tmp_path / 'empty'}").startswith(
        f"{tmp_path / 'empty'} holds no student.safetensors: not a run directory, or a run that has not finished yet."
    )


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt", "pth"])
def test_a_truncated_teacher(error_message: Any, teacher: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    if suffix == "safetensors":
        path.write_bytes((teacher / "student.safetensors").read_bytes()[:5000])
    else:
        torch.save({"state_dict": {"a": torch.zeros(5000)}}, path)
        path.write_bytes(path.read_bytes()[:5000])
    message = error_message(f"teacher.checkpoint={path}")
    assert message.startswith(
        f"{path} is truncated or is not a {'safetensors file' if suffix == 'safetensors' else 'checkpoint'}: "
    )


def test_a_foreign_teacher(error_message: Any, tmp_path: Path) -> None:
    path = tmp_path / "foreign.pth"
    torch.save({"state_dict": {"backbone.weight": torch.zeros(3)}}, path)
    assert error_message(f"teacher.checkpoint={path}").startswith(
        f"{path} is a plain state dict without a record of its architecture;"
    )
    named = f"teacher={{checkpoint: {path}, name: wrn_10_1, normalisation: {{mean: [0, 0, 0], std: [1, 1, 1]}}}}"
    assert error_message(named).startswith(f"{path} does not fit wrn_10_1 with 10 classes: 39 missing: conv1.weight, ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"layer.weight": torch.zeros(2)}, "does not fit wrn_10_1 with 10 classes: 39 missing: conv1.weight, "),
        (
            {"fc.weight": torch.zeros(4, 64), "fc.bias": torch.zeros(4)},
            "has 4 classes, but wrn_10_1 has 10: the layer fc",
        ),
        ({"fc.bias": torch.full((10,), torch.nan)}, "fc.bias contains values that are not finite (10 of 10)."),
    ],
)
def test_starting_weights_that_do_not_fit(error_message: Any, tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "start.pth"
    own = {} if "layer.weight" in content else create_model("wrn_10_1", num_classes=10).network.state_dict()
    torch.save({"model": {**own, **content}}, path)
    assert error_message(f"student.weights={path}").startswith(f"student.weights: {path}")
    assert message in error_message(f"student.weights={path}")
    assert error_message("student.weights=DEFAULT").startswith("student.weights: 'DEFAULT' is not a path; write `./DE")
    assert error_message("teacher.weights=DEFAULT").endswith(
        "teacher: weights needs the name of a network, such as `name: torchvision:resnet50`"
    )


def test_normalisation_with_another_number_of_channels(error_message: Any, teacher: Path) -> None:
    message = "normalisation must have a mean and a std for each of the 3 channels, got mean [0.5, 0.5] and std [1.0]."
    assert error_message("student.normalisation={mean: [0.5, 0.5], std: [1]}") == message
    assert error_message("student.normalisation={mean: [0.5], std: [1]}") == message.replace("[0.5, 0.5]", "[0.5]")


class Planted:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def test_a_teacher_file_that_contains_code(error_message: Any, tmp_path: Path) -> None:
    path, planted = tmp_path / "hostile.pth", tmp_path / "planted"
    path.write_bytes(pickle.dumps({"state_dict": Planted(planted)}, protocol=2))
    assert error_message(f"teacher.checkpoint={path}").startswith(
        f"{path} was not loaded: the key 'state_dict' holds a posix.system, and building such an object could execute"
    )
    assert not planted.exists()


def test_a_folder_without_images_and_one_with_a_broken_image(error_message: Any, tmp_path: Path) -> None:
    root = tmp_path / "images"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
    data = f"data={{name: image_folder, root: {root}, size: 16, count: null}}"
    assert str(root) in error_message(data)
    for i in range(20):
        Image.new("RGB", (20, 20), (i, i, i)).save(root / ("cat" if i % 2 else "dog") / f"{i}.png")
    broken = root / "cat" / "7.png"
    broken.write_bytes(broken.read_bytes()[:40])
    assert str(broken) in error_message(data)


def test_a_directory_with_other_files(distill: Command, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "thesis.txt").write_text("years of work")
    for extra in ([], ["--overwrite"]):
        result = distill("train", TINY, *SMALL, *QUIET, f"output_dir={tmp_path}", *extra)
        assert result.code == 2
        assert (
            "tiny is not empty and does not contain a run. Choose another `name=` or `output_dir=`." in result.message
        )
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == ["thesis.txt"]
    assert (tmp_path / "tiny" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("arguments", [["trian"], ["train"], ["train", TINY, "--overwritee"], ["list"]])
def test_a_command_that_cannot_be_parsed(distill: Command, arguments: list[str]) -> None:
    assert distill(*arguments).code == 2


def test_a_diverging_loss_exits_with_1(distill: Command, tmp_path: Path) -> None:
    result = distill(
        "train", TINY, *SMALL, *QUIET, f"output_dir={tmp_path}", "optimizer.lr=1e30", "trainer.max_epochs=9"
    )
    assert result.code == 1
    assert "is not a finite number; " in result.message
    assert "Lower optimizer.lr" in result.message
