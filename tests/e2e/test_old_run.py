"""Runs, caches, evaluations and ablations that an older version wrote can still be used.

The archive was written by tests/data/old_run/write.sh with commit cfeac82.
"""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill.build import build, resolve_methods, run_identity
from distill.models import load_model
from distill.workflows.train import make_config
from tests.e2e.helpers import Command

ARCHIVE = Path(__file__).parents[1] / "data" / "old_run" / "old_run.tar.xz"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files of the older version."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path)  # our own file; the argument `filter` is missing in Python 3.11.2
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def test_the_archive_is_small() -> None:
    assert ARCHIVE.stat().st_size < 500_000


@pytest.mark.parametrize("name", ["finished", "stopped"])
def test_the_configuration_has_the_identity_that_was_recorded(old: Path, name: str) -> None:
    recorded = json.loads((old / "runs" / name / "environment.json").read_text())["identity"]
    assert run_identity(make_config([f"runs/{name}/config.yaml"], {}, [])) == recorded
    assert run_identity(resolve_methods(make_config(["student.yaml"], {}, [f"name={name}"]))) == recorded


def test_the_weights_of_a_run_and_of_a_checkpoint_load(old: Path) -> None:
    student = load_model(old / "runs" / "finished")
    assert student.classes[0] == "t-shirt/top"
    for name, value in load_file(old / "runs" / "finished" / "student.safetensors").items():
        assert torch.equal(student.network.state_dict()[name], value)
    last = build(make_config(["student.yaml"], {}, ["teacher.checkpoint=runs/stopped/checkpoints/last.ckpt"]))
    assert last.module.teacher is not None


def test_a_finished_run_is_done(distill: Command, old: Path) -> None:
    before = {path: path.read_bytes() for path in (old / "runs" / "finished").rglob("*") if path.is_file()}
    result = distill("train", "student.yaml", "name=finished")
    assert (result.code, result.message) == (0, "finished: already done; the student is in runs/finished")
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_stopped_run_is_resumed_to_the_end_of_the_finished_one(distill: Command, old: Path) -> None:
    result = distill("train", "student.yaml", "name=stopped")
    assert result.code == 0, result.err
    assert "stopped: resumed and trained; the student is in runs/stopped" in result.message
    runs = [old / "runs" / name for name in ("stopped", "finished")]
    resumed, finished = (load_file(run / "student.safetensors") for run in runs)
    assert list(resumed) == list(finished)
    for name, value in finished.items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-4, atol=1e-5, msg=name)
    logged, expected = (rows(run) for run in runs)
    assert [(row["epoch"], row["step"]) for row in logged] == [(row["epoch"], row["step"]) for row in expected]
    # All views were cached by the finished run, so the file of the cache was read.
    assert {row["train/teacher_cache_hits"] for row in logged if "train/loss" in row} == {1.0}


def test_a_cache_of_the_teacher_is_filled_already(distill: Command, old: Path) -> None:
    files = {path: path.read_bytes() for path in (old / "runs" / "teacher_cache").rglob("rows.bin")}
    result = distill("cache", "student.yaml")
    assert result.code == 0, result.err
    changed = [path for path, content in files.items() if path.read_bytes() != content]
    assert (len(files), changed) == (3, [])


def test_a_run_is_evaluated_to_the_same_figures(distill: Command, old: Path) -> None:
    folder = old / "runs" / "finished"
    before = json.loads((folder / "evaluation.json").read_text())["sets"]["test"]["networks"]
    quick = ("--perturbed", 0, "--explained", 0, "--no-sanity", "--gallery", 0, "--device", "cpu")
    result = distill("evaluate", folder, "--reference", old / "runs" / "teacher", *quick)
    assert result.code == 0, result.err
    after = json.loads((folder / "evaluation.json").read_text())["sets"]["test"]["networks"]
    for network in ("finished", "teacher"):
        for name in ("accuracy", "calibration_error", "energy_in_object"):
            got, expected = (record[network]["figures"][name]["value"] for record in (after, before))
            assert got == pytest.approx(expected, abs=1e-5), name
    for name in ("agreement", "map_cosine"):
        got, expected = (record["finished"]["figures"][name]["value"] for record in (after, before))
        assert got == pytest.approx(expected, abs=1e-4), name


@pytest.mark.parametrize("folder", ["runs/finished", "ablations/ablation"])
def test_the_report_of_stored_results_is_written_again(distill: Command, old: Path, folder: str) -> None:
    assert not (old / folder / "report.html").exists()
    result = distill("report", folder)
    assert result.code == 0, result.err
    assert "<table" in (old / folder / "report.html").read_text()


def test_stored_results_of_an_ablation_are_reused(distill: Command, old: Path) -> None:
    folder = old / "ablations" / "ablation"
    before = json.loads((folder / "ablation.json").read_text())
    planned = distill("ablate", "ablation.yaml", "--dry-run")
    assert (planned.code, planned.message) == (0, "no runs left")
    result = distill("ablate", "ablation.yaml")
    assert result.code == 0, result.err
    after = json.loads((folder / "ablation.json").read_text())
    assert after.pop("checksum")  # older versions wrote none
    assert after == before
    assert not (folder / "runs").exists()
