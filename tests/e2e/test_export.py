"""`distill export`: a file that is checked, or none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from distill.export import FORMATS
from distill.export.formats import open_pt2
from distill.models import load_model
from tests.e2e.helpers import Command
from tests.export.helpers import CLASSES, finished_run

DOCS = Path(__file__).parents[2] / "docs" / "deploy.md"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("runs") / "student")


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_program_with_maps_beside_the_run(distill: Command, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "student.pt2"
    said = distill("export", run, "--format", "pt2", "--maps", "--layer", "group2", "--output", path)
    assert said.code == 0, said.err
    size, checked = said.out.splitlines()
    assert size == f"{path}: {path.stat().st_size / 1e6:.2f} MB"
    assert checked.startswith("checked on 72 test images in batches of 1, 3, 64 and 4: logits differ by at most ")
    assert "the first choice is the same on all; maps of group2, scaled to 1, differ by at most " in checked
    assert files(path.parent) == {"student.pt2"}
    images = torch.rand(4, 3, 16, 16)
    out = torch.export.load(path).module()(images)
    torch.testing.assert_close(out["logits"], load_model(run)(images), rtol=1e-4, atol=1e-4)
    assert out["maps"].shape == (4, 8, 8)


def test_onnx_is_what_is_written_if_nothing_is_said(distill: Command, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    run = finished_run(tmp_path / "student")
    said = distill("export", run, "--limit", 5)
    assert said.code == 0, said.err
    assert "checked on 5 test images in batches of 1 and 3: " in said.out
    assert "maps" not in said.out
    assert (run / "student.onnx").stat().st_size < 1.2 * (run / "student.safetensors").stat().st_size + 100_000


def test_a_file_is_replaced_only_if_that_is_asked_for(distill: Command, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "student.pt2"
    path.write_text("years of work")
    given = ("export", run, "--format", "pt2", "--output", path, "--limit", 4)
    said = distill(*given)
    assert said.code == 2
    assert said.message == (
        f"distill: {path} is there already; replace it with --overwrite, or choose another --output."
    )
    assert path.read_text() == "years of work"
    assert distill(*given, "--overwrite").code == 0
    assert torch.export.load(path).module()(torch.rand(1, 3, 16, 16))["logits"].shape == (1, 10)


Opened = Callable[[Tensor], dict[str, Tensor]]


@pytest.mark.parametrize("output", ["logits", "maps"])
@pytest.mark.parametrize("there_before", [False, True])
def test_a_file_that_gives_something_else_is_not_kept(
    distill: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, there_before: bool
) -> None:
    def open_wrong(path: Path) -> Opened:
        right = open_pt2(path)

        def session(images: Tensor) -> dict[str, Tensor]:
            out = dict(right(images))
            return {**out, output: out[output].flip(-1)}

        return session

    monkeypatch.setattr("distill.workflows.export.FORMATS", {"pt2": FORMATS["pt2"]._replace(open=open_wrong)})
    path = tmp_path / "student.pt2"
    if there_before:
        path.write_text("the last good one")
    said = distill("export", run, "--format", "pt2", "--maps", "--output", path, "--overwrite")
    assert said.code == 1
    assert "the student's" in said.message
    assert files(tmp_path) == ({"student.pt2"} if there_before else set())
    if there_before:
        assert path.read_text() == "the last good one"


def test_what_is_missing_is_said_with_how_to_get_it(
    distill: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = FORMATS["onnx"]._replace(packages=("json", "onnxruntime_of_nobody"))
    monkeypatch.setattr("distill.workflows.export.FORMATS", {"onnx": kind})
    said = distill("export", run)
    assert (said.code, said.message) == (
        2,
        'distill: onnxruntime_of_nobody not installed; pip install "distill-explain[export]"',
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{run}", "--format", "onx"), "--format: unknown format 'onx'; did you mean 'onnx'? (known: onnx, pt2)"),
        (("{run}", "--layer", "group2"), "--layer is the layer of the maps; add --maps."),
        (("{run}", "--format", "pt2", "--opset", 18), "--opset belongs to --format onnx; leave it out."),
        (("{run}", "--format", "pt2", "--maps", "--layer", "group7"), "no maps of layer 'group7' can be exported: "),
        (("{run}", "--format", "pt2", "--output", "{run}"), "is a folder; give the name of a file."),
        (("{none}", "--format", "pt2"), "there is no run directory"),
    ],
)
def test_wrong_input_is_one_message_and_no_file(
    distill: Command, run: Path, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    before = files(run)
    said = distill("export", *(str(part).format(run=run, none=tmp_path / "none") for part in arguments))
    assert said.code == 2, said.err
    assert message in said.message
    assert files(run) == before
    assert files(tmp_path) == set()


def snippets() -> list[str]:
    blocks = DOCS.read_text().split("```python\n")[1:]
    return [block.split("```")[0] for block in blocks]


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_the_documented_way_to_run_a_file(distill: Command, tmp_path: Path, format: str) -> None:
    if format == "onnx":
        pytest.importorskip("onnxruntime")
    run = finished_run(tmp_path / "student", "data.size=32", "data.count=4")
    assert distill("export", run, "--format", format, "--maps").code == 0
    Image.new("RGB", (50, 40), (90, 160, 30)).save(run / "photo.png")
    (snippet,) = [text for text in snippets() if f"student.{format}" in text]
    # Neither torch (for ONNX) nor this project is needed where the file is used.
    foreign = "'distill'" if format == "pt2" else "'distill', 'torch'"
    script = f"{snippet}\nimport sys\nassert not {{{foreign}}} & set(sys.modules)\n"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=run, env=environment, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    if format == "pt2":
        assert said.stdout == "torch.Size([5, 10])\n"
        return
    pixels = torch.tensor([90, 160, 30]).view(3, 1, 1).expand(3, 32, 32) / 255
    with torch.no_grad():
        expected = load_model(run)(pixels[None]).argmax(1).item()
    assert said.stdout == f"{CLASSES[int(expected)]} (1, 8, 8)\n"


def test_a_program_keeps_the_facts_of_the_student(distill: Command, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "student.pt2"
    assert distill("export", run, "--format", "pt2", "--output", path, "--limit", 1).code == 0
    extra = {"distill_explain.json": ""}
    torch.export.load(path, extra_files=extra)
    facts = json.loads(extra["distill_explain.json"])
    assert (facts["classes"], facts["size"], facts["maps"]) == (list(CLASSES), [16, 16], None)
    assert facts["normalisation"] == {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
