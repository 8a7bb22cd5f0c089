"""The Python example in README.md runs as it is written, with fewer images and epochs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.e2e.helpers import QUIET, Command

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    code, replaced = re.subn(r'"count": 4000', '"count": 64, "size": 16, "batch_size": 32', code)
    code, epochs = re.subn(r"epochs=4", "epochs=1, trainer={'enable_progress_bar': False}", code)
    assert (replaced, epochs) == (2, 2)
    assert "import torch" not in code
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)).save("photo.jpg")
    names: dict[str, Any] = {}
    exec(code, names)
    student, teacher = names["student"], names["teacher"]
    assert teacher.directory == Path("runs/teacher")
    assert student.config.objective["explanation"].weight == 5
    assert student.config.objective["soft_targets"].weight == 0.9
    report = student.directory / "report.html"
    assert str(report) in code
    assert report.is_file()


def test_the_commands_under_train_work_in_a_fresh_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distill_command: Command
) -> None:
    section = README.read_text().split("## Train\n")[1].split("\n## ")[0]
    commands = re.findall(r"^    distill (train .*)$", section.replace("\\\n", ""), re.MULTILINE)
    assert len(commands) == 2
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    tiny = ["data.count={train: 64, validation: 16, test: 16}", "data.size=16", "trainer.max_epochs=1", *QUIET]
    for text in commands:
        result = distill_command(*text.split(), *tiny)
        assert result.code == 0, result.message
    assert sorted(path.parent.name for path in Path("runs/demo").glob("*/student.json")) == ["kd_grad_cam_pp", "mine"]
