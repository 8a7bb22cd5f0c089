"""`RayExecutor` on a local Ray returns one result per task, also after a lost worker."""

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


def kill_when_written(pid: Path) -> threading.Thread:
    """Kill a worker once it has written its process number."""

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


def test_tasks_with_a_lost_worker_a_failure_and_a_real_run(tmp_path: Path) -> None:
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
    killer = kill_when_written(tmp_path / "lost" / "pid")
    results = list(RayExecutor(processes=2, threads=1, gpus=0).run(tasks, work.one_of_many))
    killer.join()
    by_key = {result.key: result for result in results}
    assert sorted(result.key for result in results) == sorted(task.key for task in tasks)  # one result each
    assert by_key["wait"].value == "second"
    assert [by_key[f"square {n}"].value for n in range(4)] == [0, 1, 4, 9]
    assert by_key["fail"] == TaskResult("fail", "failed", reason="3 is odd; give an even one.")
    lines = (tmp_path / "logs" / "say.log").read_text().splitlines()
    assert set(lines) == {"hello on stdout", "hello on stderr", "hello from a child process"}
    assert by_key["environment"].value["threads"] == 1
    assert by_key["environment"].value["RAY_USAGE_STATS_ENABLED"] == "0"
    local = run_trial(TrialJob(trial.config, trial.identity, ablation.measured, job.figures, folders))  # stored result
    assert by_key["real"].value == local
    assert local["figures"]["unbiased/accuracy"] is not None


def test_a_task_whose_worker_is_always_lost(tmp_path: Path) -> None:
    tasks = [task_of("die", None, tmp_path), task_of("square", 3, tmp_path)]
    results = {
        result.key: result
        for result in RayExecutor(processes=2, threads=1, gpus=0, retries=0).run(tasks, work.one_of_many)
    }
    assert results["square"].value == 9
    assert results["die"].state == "lost"
    assert "died" in str(results["die"].reason)


def test_an_unreachable_cluster(tmp_path: Path) -> None:
    executor = RayExecutor(processes=1, threads=1, address="127.0.0.1:1")
    with pytest.raises(InputError, match=r"^executor\.address: no Ray cluster at '127\.0\.0\.1:1'"):
        list(executor.run([task_of("square", 1, tmp_path)], work.one_of_many))
