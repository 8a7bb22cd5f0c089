"""One trial in this process: it is trained or reused, evaluated once, and its result is stored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.ablation.results import Results
from distill.ablation.trial import (
    TrialJob,
    run_trial,
    settings_for,
)
from distill.config import Config
from distill.data import load_split
from distill.data.fashion_items import CLASSES
from distill.errors import InputError
from distill.evaluation import ONE_PASS, ComparedNetworks, EvaluationSettings
from distill.models import load_model
from distill.training import RunDirectory
from distill.types import StagedOutput
from distill.workflows.run import selected_metrics
from tests.training.helpers import save_teacher, small

MEASURED: dict[str, Any] = {
    "test_sets": {"plain": {"count": 40}, "other": {"count": 40, "background": "conflicting"}},
    "maps": {"method": "grad_cam", "layer": "group2", "target": "label"},
}
FIGURES = ("plain/accuracy", "other/map_cosine")


def job(folder: Path, *pairs: str) -> TrialJob:
    config = small(folder, "name=here", "trainer.max_epochs=2", *pairs)
    return TrialJob(config, "abc", MEASURED, FIGURES, (str(folder / "results"),))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("teacher"), classes=CLASSES)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> TrialJob:
    done = job(tmp_path_factory.mktemp("done"), f"teacher.checkpoint={teacher}")
    run_trial(done)
    return done


def accuracy(run: Path, **data: object) -> float:
    """Return the accuracy on the test split, computed by hand."""
    test = load_split("fashion_scenes", "test", size=16, seed=0, count=40, **data)
    with torch.no_grad():
        logits = load_model(run)(test.images.float() / 255)
    return float((logits.argmax(1) == test.labels).double().mean())


def test_the_metrics_are_those_of_the_saved_weights_on_the_test_sets(done: TrialJob) -> None:
    result = run_trial(done)
    run = done.config.directory
    assert result["figures"]["plain/accuracy"] == pytest.approx(accuracy(run), abs=1e-6)
    assert result["figures"]["other/accuracy"] == pytest.approx(accuracy(run, background="conflicting"), abs=1e-6)
    best = torch.load(RunDirectory(run).best, weights_only=True)["callbacks"]
    scores = [state["best_model_score"] for name, state in best.items() if "validation/accuracy" in name]
    assert result["figures"]["validation/accuracy"] == pytest.approx(float(scores[0]))
    assert {"plain/agreement", "plain/map_cosine", "other/energy_in_object"} <= result["figures"].keys()
    assert not [name for name, value in result["figures"].items() if value is None]


def test_a_stored_result_is_neither_trained_nor_evaluated(done: TrialJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the trial was run again")

    first = run_trial(done)
    for name in ("train_config", "evaluate"):
        monkeypatch.setattr(f"distill.ablation.trial.{name}", forbidden)
    assert run_trial(done) == first
    with pytest.raises(AssertionError, match="the trial was run again"):
        run_trial(replace(done, figures=("plain/adcc",)))


@pytest.mark.parametrize("policy", ["label", "teacher"])
def test_a_teacher_with_a_disk_cache_runs_once_per_test_set(
    tmp_path: Path, teacher: Path, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[tuple[str, int]] = []
    run = ComparedNetworks._forward

    def counting(compared: ComparedNetworks, network: str, images: torch.Tensor) -> StagedOutput:
        passes.append((network, len(images)))
        return run(compared, network, images)

    monkeypatch.setattr(ComparedNetworks, "_forward", counting)
    measured = {**MEASURED, "maps": {**MEASURED["maps"], "target": policy}}
    figures = {}
    for name, cache in (("first", "off"), ("second", "off"), ("cold", "disk"), ("warm", "disk")):
        one = job(tmp_path, f"teacher.checkpoint={teacher}", f"teacher.cache={cache}", f"name={name}")
        passes.clear()
        figures[name] = run_trial(replace(one, identity=name, measured=measured))["figures"]
        whole = [network for network, count in passes if count == 40]
        assert whole.count("student") == 2
        assert whole.count("teacher") == (0 if name == "warm" else 2)
    assert figures["first"] == figures["second"], "runs must be repeatable for this test"
    assert figures["cold"] == figures["first"]
    assert figures["warm"] == figures["first"]
    passes.clear()
    other_layer = {**measured, "maps": {**measured["maps"], "layer": "final"}}
    run_trial(replace(one, identity="other layer", measured=other_layer))
    assert [network for network, count in passes if count == 40].count("teacher") == 2


def test_a_later_metric_is_measured_with_the_same_weights(done: TrialJob) -> None:
    weights = (done.config.directory / "student.safetensors").stat().st_mtime_ns
    before = run_trial(done)["figures"]
    after = run_trial(replace(done, figures=("plain/adcc",)))["figures"]
    assert after["plain/adcc"] is not None
    assert {name: after[name] for name in before} == before
    assert (done.config.directory / "student.safetensors").stat().st_mtime_ns == weights


def test_another_ablation_with_other_metrics_trains_nothing_and_keeps_the_old_ones(
    done: TrialJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the run was trained again")

    before = run_trial(replace(done, figures=("plain/adcc",)))["figures"]
    monkeypatch.setattr("distill.ablation.trial.train_config", forbidden)
    other = done.config.model_copy(update={"output_dir": str(Path(done.config.output_dir) / "other")})
    after = run_trial(replace(done, config=other, figures=("plain/deletion_auc",)))["figures"]
    assert after["plain/deletion_auc"] is not None
    assert before.items() <= after.items()
    measured = {**MEASURED, "test_sets": {"plain": {"count": 20}}}
    assert run_trial(replace(done, config=other, measured=measured))["figures"]["plain/accuracy"] is not None
    assert not other.directory.exists()


def test_a_run_whose_directory_is_missing_is_trained_again(done: TrialJob, tmp_path: Path) -> None:
    results = Results([tmp_path / "results"])
    results.save_run_path(done.identity, tmp_path / "nowhere")
    assert results.find_run(done.identity) == tmp_path / "nowhere"
    assert results.find_run("another") is None
    elsewhere = done.config.model_copy(update={"output_dir": str(tmp_path)})
    run_trial(replace(done, config=elsewhere, results=(str(tmp_path / "results"),)))
    assert results.find_run(done.identity) == elsewhere.directory


def test_results_contain_no_paths(done: TrialJob) -> None:
    path = Results(done.results).path(done.identity, MEASURED)
    assert str(done.config.output_dir) not in path.read_text()
    assert json.loads(path.read_text())["config"]["optimizer"]["lr"] == done.config.optimizer.lr


def test_no_comparison_without_a_teacher(tmp_path: Path) -> None:
    alone = replace(job(tmp_path), figures=("plain/accuracy", "plain/agreement"))
    figures = run_trial(alone)["figures"]
    assert figures["plain/agreement"] is None
    assert figures["plain/accuracy"] is not None
    assert "plain/map_cosine" not in figures


def test_another_run_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    run_trial(job(tmp_path))
    other = replace(job(tmp_path, "optimizer.lr=0.01"), identity="abd")
    with pytest.raises(InputError, match="contains a run with another configuration"):
        run_trial(other)
    run_trial(replace(other, overwrite=True))
    environment = tmp_path / "here" / "environment.json"
    written = environment.stat().st_mtime_ns
    Results(other.results).path("abd", MEASURED).unlink()
    run_trial(replace(other, overwrite=True))  # the same run is reused
    assert environment.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("monitor", "expected"),
    [
        ("{metric: validation/accuracy, mode: max, select: best}", 0.6),
        ("{metric: validation/cross_entropy, mode: min, select: best}", 0.3),
        ("{metric: train/loss, mode: min, select: best}", 0.5),
        ("{metric: validation/accuracy, mode: max, select: last}", 0.5),
    ],
)
def test_the_validation_accuracy_is_that_of_the_saved_epoch(tmp_path: Path, monitor: str, expected: float) -> None:
    config: Config = small(tmp_path, "name=here", f"monitor={monitor}")
    config.directory.mkdir()
    RunDirectory(config.directory).metrics.write_text(
        "epoch,step,validation/accuracy,validation/cross_entropy,train/loss\n"
        "0,3,0.3,1.0,\n0,3,,,9.0\n1,7,0.6,1.5,\n1,7,,,8.0\n2,11,0.5,1.2,\n2,11,,,7.0\n"
    )
    assert selected_metrics(config)["validation/accuracy"] == expected


def test_only_the_required_passes_are_made() -> None:
    assert settings_for(["a/accuracy", "validation/accuracy", "a/gini"]) == ONE_PASS
    assert settings_for(["a/average_drop"]) == replace(ONE_PASS, masked=True)
    assert settings_for(["a/deletion_auc"]) == replace(ONE_PASS, perturbed=EvaluationSettings.perturbed)
