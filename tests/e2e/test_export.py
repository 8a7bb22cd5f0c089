"""`distill export` writes a file only if its outputs match those of the student."""

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


def test_a_program_with_maps(distill: Command, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "student.pt2"
    result = distill("export", run, "--format", "pt2", "--maps", "--layer", "group2", "--output", path)
    assert result.code == 0, result.err
    size, checked = result.out.splitlines()
    assert size == f"{path}: {path.stat().st_size / 1e6:.2f} MB"
    assert checked.startswith("checked on 72 test images in batches of 1, 3, 64 and 4: logits differ by at most ")
    assert "; all predictions are the same; maps of group2, scaled to 1, differ by at most " in checked
    assert files(path.parent) == {"student.pt2"}
    images = torch.rand(4, 3, 16, 16)
    out = torch.export.load(path).module()(images)
    torch.testing.assert_close(out["logits"], load_model(run)(images), rtol=1e-4, atol=1e-4)
    assert out["maps"].shape == (4, 8, 8)


def test_onnx_is_the_default_format(distill: Command, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    run = finished_run(tmp_path / "student")
    result = distill("export", run, "--limit", 5)
    assert result.code == 0, result.err
    assert "checked on 5 test images in batches of 1 and 3: " in result.out
    assert "maps" not in result.out
    assert (run / "student.onnx").stat().st_size < 1.2 * (run / "student.safetensors").stat().st_size + 100_000


def test_a_file_is_replaced_only_with_overwrite(distill: Command, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "student.pt2"
    path.write_text("years of work")
    arguments = ("export", run, "--format", "pt2", "--output", path, "--limit", 4)
    result = distill(*arguments)
    assert result.code == 2
    assert result.message == (f"distill: {path} exists. Replace it with --overwrite, or choose another --output.")
    assert path.read_text() == "years of work"
    assert distill(*arguments, "--overwrite").code == 0
    assert torch.export.load(path).module()(torch.rand(1, 3, 16, 16))["logits"].shape == (1, 10)


Opened = Callable[[Tensor], dict[str, Tensor]]


@pytest.mark.parametrize("output", ["logits", "maps"])
@pytest.mark.parametrize("exists", [False, True])
def test_a_file_with_other_outputs_is_not_kept(
    distill: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, exists: bool
) -> None:
    def open_wrong(path: Path) -> Opened:
        correct = open_pt2(path)

        def session(images: Tensor) -> dict[str, Tensor]:
            out = dict(correct(images))
            return {**out, output: out[output].flip(-1)}

        return session

    monkeypatch.setattr("distill.workflows.export.FORMATS", {"pt2": FORMATS["pt2"]._replace(open=open_wrong)})
    path = tmp_path / "student.pt2"
    if exists:
        path.write_text("the last good one")
    result = distill("export", run, "--format", "pt2", "--maps", "--output", path, "--overwrite")
    assert result.code == 1
    assert "the student's" in result.message
    assert files(tmp_path) == ({"student.pt2"} if exists else set())
    if exists:
        assert path.read_text() == "the last good one"


def test_a_missing_package_is_reported_with_how_to_install_it(
    distill: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = FORMATS["onnx"]._replace(packages=("json", "missing_package"))
    monkeypatch.setattr("distill.workflows.export.FORMATS", {"onnx": kind})
    result = distill("export", run)
    assert (result.code, result.message) == (
        2,
        'distill: missing_package not installed; run `pip install -e ".[export]"`.',
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{run}", "--format", "onx"), "--format: unknown format 'onx'; did you mean 'onnx'? (known: onnx, pt2)"),
        (("{run}", "--layer", "group2"), "--layer sets the layer of the maps and needs --maps; add --maps."),
        (("{run}", "--format", "pt2", "--opset", 18), "--opset applies to --format onnx only; leave it out."),
        (("{run}", "--format", "pt2", "--maps", "--layer", "group7"), "maps of layer 'group7' cannot be exported: "),
        (("{run}", "--format", "pt2", "--output", "{run}"), "--output: {run} is a folder; give the name of a file."),
        (("{none}", "--format", "pt2"), "no run directory {none}. Check the path."),
    ],
)
def test_wrong_input_is_reported_and_no_file_is_written(
    distill: Command, run: Path, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    before = files(run)
    result = distill("export", *(str(part).format(run=run, none=tmp_path / "none") for part in arguments))
    assert result.code == 2, result.err
    assert message.format(run=run, none=tmp_path / "none") in result.message
    assert files(run) == before
    assert files(tmp_path) == set()


def snippets() -> list[str]:
    blocks = DOCS.read_text().split("```python\n")[1:]
    return [block.split("```")[0] for block in blocks]


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_the_documented_code_runs_a_file(distill: Command, tmp_path: Path, format: str) -> None:
    if format == "onnx":
        pytest.importorskip("onnxruntime")
    run = finished_run(tmp_path / "student", "data.size=32", "data.count=4")
    assert distill("export", run, "--format", format, "--maps").code == 0
    Image.new("RGB", (50, 40), (90, 160, 30)).save(run / "photo.png")
    (snippet,) = [text for text in snippets() if f"student.{format}" in text]
    # The file runs without this project and, for ONNX, without torch.
    not_needed = "'distill'" if format == "pt2" else "'distill', 'torch'"
    script = f"{snippet}\nimport sys\nassert not {{{not_needed}}} & set(sys.modules)\n"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=run, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    if format == "pt2":
        assert result.stdout == "torch.Size([5, 10])\n"
        return
    pixels = torch.tensor([90, 160, 30]).view(3, 1, 1).expand(3, 32, 32) / 255
    with torch.no_grad():
        expected = load_model(run)(pixels[None]).argmax(1).item()
    assert result.stdout == f"{CLASSES[int(expected)]} (1, 8, 8)\n"


def test_a_program_contains_the_metadata_of_the_student(distill: Command, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "student.pt2"
    assert distill("export", run, "--format", "pt2", "--output", path, "--limit", 1).code == 0
    extra = {"distill_explain.json": ""}
    torch.export.load(path, extra_files=extra)
    facts = json.loads(extra["distill_explain.json"])
    assert (facts["classes"], facts["size"], facts["maps"]) == (list(CLASSES), [16, 16], None)
    assert facts["normalisation"] == {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
