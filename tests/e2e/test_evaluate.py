"""`distill evaluate`: comparison of finished runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest

from distill.report import schema
from distill.workflows.train import train
from tests.e2e.helpers import QUIET, SMALL, TINY, Command


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    common = [*SMALL, *QUIET, f"output_dir={folder}"]
    train(TINY, overrides=[*common, "name=teacher"])
    teacher = f"teacher.checkpoint={folder / 'teacher'}"
    student = (teacher, "objective.soft_targets.weight=1", "objective.explanation.weight=1", "data.background_bias=0.9")
    train(TINY, overrides=[*common, *student, "name=student"])
    return folder


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """Runs that a test may change."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


SETS = ("--on", "background=unbiased,count=24", "--on", "background=conflicting,count=24")


def test_table_record_pictures_and_report(distill: Command, runs: Path) -> None:
    result = distill("evaluate", f"S={runs / 'student'}", "--reference", runs / "teacher", *SETS)
    assert result.code == 0, result.err
    assert "unbiased, 24 (n = 24)" in result.out
    assert "conflicting, 24 (n = 24)" in result.out
    assert "report.html" in result.err
    record = json.loads((runs / "student" / "evaluation.json").read_text())
    assert list(record["sets"]) == ["unbiased, 24", "conflicting, 24"]
    assert record["reference"] == "teacher"
    networks = record["sets"]["unbiased, 24"]["networks"]
    assert set(networks) == {"teacher", "S"}
    assert networks["S"]["figures"]["agreement"]["n"] == 24
    assert 0 <= networks["S"]["figures"]["accuracy"]["value"] <= 1
    jsonschema.validate(record, schema())
    assert (runs / "student" / "per_image.parquet").read_bytes().startswith(b"PAR1")
    assert "| Map cosine | ↑ | – |" in (runs / "student" / "table.md").read_text()
    assert (runs / "student" / "maps.png").read_bytes().startswith(b"\x89PNG")
    page = (runs / "student" / "report.html").read_text()
    assert "Content-Security-Policy" in page
    assert "unbiased" in page


def test_results_of_a_single_run_are_in_its_directory(distill: Command, runs: Path) -> None:
    result = distill("evaluate", runs / "teacher", "--limit", 10, "--on", "count=24")
    assert result.code == 0, result.err
    record = json.loads((runs / "teacher" / "evaluation.json").read_text())
    (only,) = record["sets"].values()
    assert only["n"] == 10
    assert only["networks"]["teacher"]["figures"]["agreement"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing",), "no run directory missing. Train a run with `distill train`, or correct the path."),
        (("{runs}",), "is not a run directory: it has no config.yaml"),
        (("{runs}/teacher", "--on", "colour=red"), "unknown option of data set fashion_scenes 'colour'"),
        (("{runs}/teacher", "--on", "nonsense"), "--on: expected key=value"),
        (("{runs}/teacher", "--method", "grad_camp"), "`method` must be one of"),
        (("{runs}/teacher", "--layer", "group9", "--on", "count=8"), "unknown layer 'group9'; did you mean 'group2'?"),
        (("{runs}/teacher", "{runs}/student"), "have different test images"),
        (("a={runs}/teacher", "a={runs}/student", "--on", "background=unbiased"), "two runs have the name 'a'"),
    ],
)
def test_wrong_input_is_one_message(distill: Command, runs: Path, arguments: tuple[str, ...], message: str) -> None:
    result = distill("evaluate", *(part.format(runs=runs) for part in arguments))
    assert result.code == 2
    assert message in result.message
    assert not (runs / "evaluation.json").exists()
