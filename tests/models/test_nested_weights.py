"""Files that hold several sets of weights: which is taken is said, and can be chosen."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.build.networks import build_teacher
from distill.build.teacher_cache import _weights_id
from distill.config import TeacherSection
from distill.data import load_split
from distill.errors import InputError, InputNote, InputWarning
from distill.models import create_model, load_network
from tests.training.helpers import save_teacher, small

State = dict[str, Tensor]
ABOUT: dict[str, Any] = {
    "name": "wrn_10_1",
    "num_classes": 10,
    "normalisation": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
}


def state(seed: int) -> State:
    torch.manual_seed(seed)
    return dict(create_model("wrn_10_1", num_classes=10).network.state_dict())


RAW, AVERAGE = state(1), state(2)
FILES: dict[str, Callable[[], dict[str, Any]]] = {
    "ema": lambda: {"model": RAW, "ema": AVERAGE, "epoch": 3},
    "state_dict_ema": lambda: {"state_dict": RAW, "state_dict_ema": AVERAGE, "optimizer": {"state": {0: RAW}}},
    "model_ema": lambda: {
        "model": RAW,
        "model_ema": {"n_averaged": torch.tensor(5), **{f"module.{key}": value for key, value in AVERAGE.items()}},
    },
    "net": lambda: {"model": RAW, "net": AVERAGE},
}


def weight(path: Path, **options: Any) -> Tensor:
    found: Tensor = load_network(path, **ABOUT, **options).network.fc.weight  # type: ignore[union-attr,assignment]
    return found


@pytest.mark.parametrize("key", FILES)
def test_the_set_that_is_taken_is_said_and_another_can_be_chosen(tmp_path: Path, key: str) -> None:
    file = tmp_path / "net.pth"
    torch.save(FILES[key](), file)
    with pytest.warns(InputWarning, match=rf"holds several sets of weights: .*{key}.* is used; .*weights_key={key}`"):
        assert torch.equal(weight(file), RAW["fc.weight"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", InputNote)  # the prefix of an averaged model
        assert torch.equal(weight(file, weights_key=key), AVERAGE["fc.weight"])
    with pytest.raises(InputError, match=r"unknown set of weights 'emma'.*known: "):
        weight(file, weights_key="emma")


@pytest.mark.parametrize("content", [RAW, {"model": RAW, "buffers": {"mean": torch.zeros(3)}}])
def test_a_single_set_needs_no_word(tmp_path: Path, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "net.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(weight(tmp_path / "net.pth"), RAW["fc.weight"])


def test_a_run_directory_has_a_single_set(tmp_path: Path) -> None:
    folder = save_teacher(tmp_path / "teacher")
    with pytest.raises(InputError, match=r"weights_key: .* holds a single set of weights; remove `weights_key`"):
        load_network(folder, weights_key="ema")


def test_the_key_of_the_teacher_section(tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    torch.save(FILES["ema"](), file)
    keys = ("teacher.name=wrn_10_1", "teacher.normalisation={mean: [0, 0, 0], std: [1, 1, 1]}")
    config = small(tmp_path, f"teacher.checkpoint={file}", *keys, "teacher.weights_key=ema")
    teacher = build_teacher(config, load_split("fashion_scenes", "validation", size=16, count=20))
    assert teacher is not None
    assert torch.equal(teacher.network.network.fc.weight, AVERAGE["fc.weight"])  # type: ignore[union-attr,arg-type]
    section = config.teacher
    assert section is not None
    assert _weights_id(section) != _weights_id(section.model_copy(update={"weights_key": None}))
    assert TeacherSection(checkpoint="a").weights_key is None
