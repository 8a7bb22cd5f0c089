"""The progress display of an ablation, read from the files of its runs."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from distill.ablation.plan import Ablation, Trial, plan_ablation
from distill.ablation.progress import ProgressBoard, read_progress
from distill.ablation.results import RunResult
from distill.ablation.run import log_path

TINY = Path(__file__).parents[2] / "configs" / "ablation" / "tiny.yaml"
RESULT: Any = {"figures": {"unbiased/accuracy": 0.5}, "seconds": 61.0}
METRIC = "unbiased/accuracy"


@pytest.fixture
def ablation(tmp_path: Path) -> Ablation:
    return plan_ablation(TINY, [f"output_dir={tmp_path}"])


def write_epochs(trial: Trial, *accuracies: float, saved: bool = False) -> None:
    folder = trial.config.directory
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    lines = [f"{epoch},{4 * epoch},{value}" for epoch, value in enumerate(accuracies)]
    (folder / "metrics.csv").write_text("\n".join(["epoch,step,validation/accuracy", *lines]) + "\n")
    if saved:
        (folder / "student.safetensors").touch()


def start(trial: Trial) -> None:
    log = log_path(trial)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()
    later = time.time() + 1
    os.utime(log, (later, later))


def board(ablation: Ablation, **console: Any) -> tuple[ProgressBoard, io.StringIO]:
    text = io.StringIO()
    return ProgressBoard(ablation.trials, console=Console(file=text, width=120, **console), log=log_path), text


def table_lines(shown: ProgressBoard, height: int = 40) -> list[str]:
    console = Console(width=120, height=height, file=io.StringIO(), record=True)
    shown.console = console
    console.print(shown.render())
    return [" ".join(line.split()) for line in console.export_text().splitlines()]


def test_progress_of_a_run(ablation: Ablation) -> None:
    trial = ablation.trials[0]
    assert read_progress(trial) == (0, None, False)
    write_epochs(trial, 0.2, 0.4, 0.3)
    assert read_progress(trial) == (3, 0.4, False)
    (trial.config.directory / "metrics.csv").write_text("epoch,step,validation/accuracy\n0,3,0.2\n1,7,0.")
    assert read_progress(trial) == (1, 0.2, False)  # the last line is being written
    write_epochs(trial, 0.2, saved=True)
    assert read_progress(trial) == (1, 0.2, True)


def test_the_table_shows_all_states(ablation: Ablation) -> None:
    shown, _ = board(ablation)
    interrupted, running, evaluating, failed, reused, pending = ablation.trials
    write_epochs(interrupted, 0.1)
    write_epochs(running, 0.25)
    start(running)
    write_epochs(evaluating, 0.25, 0.5, saved=True)
    start(evaluating)
    shown.mark_reused(reused)
    shown.mark_finished(failed, None, "out of memory", METRIC)
    lines = table_lines(shown)
    assert lines[0] == "row seed state epoch best time left"
    assert f"{running.row} {running.seed} running 1/2 0.25" in lines
    assert f"{evaluating.row} {evaluating.seed} evaluating 2/2 0.5" in lines
    assert f"{interrupted.row} {interrupted.seed} interrupted 1/2 0.1" in lines
    assert f"{failed.row} {failed.seed} failed" in lines
    assert f"{reused.row} {reused.seed} done" in lines
    assert f"{pending.row} {pending.seed} pending" in lines
    assert lines[-1].startswith("2 running, 1 failed, 1 interrupted, 1 pending, 1 done")


def test_running_trials_are_shown_first_if_the_table_is_too_long(ablation: Ablation) -> None:
    shown, _ = board(ablation)
    start(ablation.trials[-1])
    lines = table_lines(shown, height=9)
    assert lines[1].startswith(f"{ablation.trials[-1].row} {ablation.trials[-1].seed} running")
    assert lines[-1] == "1 running, 5 pending, 3 not shown"


def test_time_left_is_estimated_from_the_epochs(ablation: Ablation, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = ablation.trials[0]
    shown, _ = board(ablation)
    start(trial)
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now)
    assert f"{trial.row} {trial.seed} running" in table_lines(shown)
    write_epochs(trial, 0.5)
    monkeypatch.setattr("time.monotonic", lambda: now + 600)
    assert f"{trial.row} {trial.seed} running 1/2 0.5 10 min" in table_lines(shown)


def test_lines_without_a_terminal(ablation: Ablation) -> None:
    shown, text = board(ablation)
    result: RunResult = RESULT
    with shown:
        shown.mark_reused(ablation.trials[0])
        shown.mark_finished(ablation.trials[1], result, None, METRIC)
        shown.mark_finished(ablation.trials[2], None, "out of memory", METRIC)
    assert text.getvalue().splitlines() == [
        "2/6  CE + KD, seed 0: unbiased/accuracy 0.5, 61 s; 0 min left",
        "3/6  CE + KD + Grad-CAM++, seed 0: out of memory; 0 min left",
    ]


def test_one_live_table_on_a_terminal(ablation: Ablation) -> None:
    shown, text = board(ablation, force_terminal=True)
    with shown:
        shown.mark_finished(ablation.trials[1], RESULT, None, METRIC)
    assert "61 s" not in text.getvalue()
    assert text.getvalue().count("CE + KD + Grad-CAM++") >= 2
