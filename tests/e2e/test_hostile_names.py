"""Names of classes, files and runs that are markup or terminal commands: shown as they are, and absent from files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.helpers import QUIET, TINY, Command

CLASSES = ["[red]a", ":x:", "\x1b]0;t\x07b", "c[", "$x$"]
CONTROL = [chr(code) for code in (*range(9), *range(11, 32), *range(127, 160))]
FAST = ("--perturbed", 0, "--explained", 0, "--no-sanity", "--limit", 8, "--gallery", 4)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    generator = np.random.default_rng(0)
    for name in CLASSES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            pixels = generator.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_names_from_an_image_folder(distill: Command, folder: Path) -> None:
    data = "data={name: image_folder, root: photos, size: 16, count: null, batch_size: 8, background: null}"
    trained = distill("train", TINY, *QUIET, "data.batch_size=8", data, "trainer.max_epochs=1", "name='[red]a :x:'")
    assert trained.message.endswith("[red]a :x:: trained; the student is in runs/[red]a :x:")
    run = folder / "runs" / "[red]a :x:"
    evaluated = distill("evaluate", f"\x1b]0;t\x07[red]l={run}", *FAST)
    assert evaluated.code == 0, evaluated.err
    assert "\\x1b]0;t\\x07[red]l" in evaluated.out
    image = folder / "[bold]\x1b]0;t\x07.png"
    shutil.copy(folder / "photos" / "c[" / "0.png", image)
    explained = distill("explain", run, image, "--class", "\x1b]0;t\x07b")
    assert explained.code == 0, explained.err
    for name in ("[red]a", ":x:", "\\x1b]0;t\\x07b", "c[", "$x$", "[bold]\\x1b]0;t\\x07.png"):
        assert name in explained.out
    wrong = distill("explain", run, image, "--class", "[red]\x1b]0;t\x07")
    assert wrong.code == 2
    for text in (trained, evaluated, explained, wrong):
        assert not [character for character in CONTROL if character in text.out + text.err.replace("\r", "")]
    for path in (run / "table.md", run / "report.html"):
        content = path.read_text(encoding="utf-8")
        assert not [character for character in CONTROL if character in content]
        assert "x1b]0;t" in content
