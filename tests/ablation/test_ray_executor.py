"""Trials on a local Ray: every result once, a lost worker included."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from distill.ablation.executors import Task, TaskResult
from distill.ablation.plan import plan_ablation
from distill.ablation.ray_executor import RayExecutor
from distill.ablation.trial import TrialJob, run_trial
from distill.errors import InputError
from tests.ablation import work

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]
TINY = Path(__file__).parents[2] / "configs" / "ablation" / "tiny.yaml"


def kill_when_there(pid: Path) -> threading.Thread:
    """End a worker from outside once it has left its number."""

    def kill() -> None:
        deadline = time.monotonic() + 60
        while not (pid.exists() and pid.read_text()):
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)
        os.kill(int(pid.read_text()), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def task_of(kind: str, payload: Any, folder: Path) -> Task:
    return Task(kind, (kind, payload), folder / "logs" / f"{kind}.log")


def test_a_small_grid_with_a_lost_worker_a_failure_and_a_real_run(tmp_path: Path) -> None:
    ablation = plan_ablation(
        TINY, [f"output_dir={tmp_path}", "rows.CE.teacher=null", "seeds=1", "metrics=[unbiased/accuracy]"]
    )
    trial = next(trial for trial in ablation.trials if trial.row == "CE")
    folders = (str(tmp_path / "results"),)
    job = TrialJob(trial.config, trial.identity, ablation.measured, ("unbiased/accuracy",), folders)
    (tmp_path / "lost").mkdir()
    tasks = [
        task_of("wait", str(tmp_path / "lost"), tmp_path),
        *(Task(f"square {n}", ("square", n), tmp_path / "logs" / f"{n}.log") for n in range(4)),
        task_of("say", "hello", tmp_path),
        task_of("fail", 3, tmp_path),
        task_of("real", job, tmp_path),
        task_of("environment", ["OMP_NUM_THREADS", "RAY_USAGE_STATS_ENABLED"], tmp_path),
    ]
    killer = kill_when_there(tmp_path / "lost" / "pid")
    ended = list(RayExecutor(processes=2, threads=1, gpus=0).run(tasks, work.one_of_many))
    killer.join()
    by_key = {one.key: one for one in ended}
    assert sorted(one.key for one in ended) == sorted(task.key for task in tasks)  # each once
    assert by_key["wait"].value == "second"
    assert [by_key[f"square {n}"].value for n in range(4)] == [0, 1, 4, 9]
    assert by_key["fail"] == TaskResult("fail", "failed", reason="3 is odd; give an even one.")
    said = (tmp_path / "logs" / "say.log").read_text().splitlines()
    assert set(said) == {"hello on stdout", "hello on stderr", "hello from a process of its own"}
    assert by_key["environment"].value["threads"] == 1
    assert by_key["environment"].value["RAY_USAGE_STATS_ENABLED"] == "0"
    here = run_trial(TrialJob(trial.config, trial.identity, ablation.measured, job.figures, folders))  # finds it
    assert by_key["real"].value == here
    assert here["figures"]["unbiased/accuracy"] is not None


def test_a_worker_that_is_always_lost_says_so(tmp_path: Path) -> None:
    tasks = [task_of("die", None, tmp_path), task_of("square", 3, tmp_path)]
    ended = {
        one.key: one for one in RayExecutor(processes=2, threads=1, gpus=0, retries=0).run(tasks, work.one_of_many)
    }
    assert ended["square"].value == 9
    assert ended["die"].state == "lost"
    assert "died" in str(ended["die"].reason)


def test_a_cluster_that_does_not_answer(tmp_path: Path) -> None:
    executor = RayExecutor(processes=1, threads=1, address="127.0.0.1:1")
    with pytest.raises(InputError, match=r"^executor\.address: no Ray cluster answers at '127\.0\.0\.1:1'"):
        list(executor.run([task_of("square", 1, tmp_path)], work.one_of_many))
