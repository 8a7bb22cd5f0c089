"""`LocalExecutor` returns one result per task, also if processes fail, are killed or exit."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from distill.ablation.executors import LocalExecutor, Task, TaskResult
from tests.ablation import work


@pytest.fixture
def run_tasks(tmp_path: Path) -> Callable[..., dict[str, TaskResult]]:
    def run(function: Callable[[Any], Any], payloads: list[Any], **settings: Any) -> dict[str, TaskResult]:
        tasks = [Task(str(i), payload, tmp_path / "logs" / f"{i}.log") for i, payload in enumerate(payloads)]
        results = list(LocalExecutor(**{"processes": 2, "threads": 1, **settings}).run(tasks, function))
        assert sorted(result.key for result in results) == sorted(task.key for task in tasks)  # one result each
        return {result.key: result for result in results}

    return run


def test_all_results_are_returned(run_tasks: Any) -> None:
    results = run_tasks(work.square, [0, 1, 2, 3, 4])
    assert {key: result.value for key, result in results.items()} == {"0": 0, "1": 1, "2": 4, "3": 9, "4": 16}
    assert {result.state for result in results.values()} == {"done"}


def test_a_failed_task_does_not_stop_the_others(run_tasks: Any) -> None:
    results = run_tasks(work.odd_ones_fail, [0, 1, 2])
    assert [results[key].state for key in "012"] == ["done", "failed", "done"]
    assert results["1"].reason == "1 is odd; give an even one."


def test_an_unexpected_error_has_a_reason_and_a_traceback_in_the_log(run_tasks: Any, tmp_path: Path) -> None:
    result = run_tasks(work.break_down, [1])["0"]
    assert (result.state, result.reason) == ("failed", "ZeroDivisionError: division by zero")
    assert "in break_down" in (tmp_path / "logs" / "0.log").read_text()


def test_an_error_of_the_file_system_is_the_reason(run_tasks: Any, tmp_path: Path) -> None:
    result = run_tasks(work.fill_the_disk, [1])["0"]
    assert (result.state, result.reason) == (
        "failed",
        "answers.bin cannot be read or written: No space left on device. Free space on that disk, then run the same "
        "command again.",
    )


def test_a_log_that_cannot_be_written_is_the_reason(run_tasks: Any, tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    result = run_tasks(work.square, [1])["0"]
    assert result.state == "failed"
    assert result.reason.startswith(f"{tmp_path / 'logs'}")
    assert "cannot be written" in result.reason


def test_output_goes_to_the_log(run_tasks: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_tasks(work.say, ["a", "b"])
    for i, text in enumerate("ab"):
        lines = set((tmp_path / "logs" / f"{i}.log").read_text().splitlines())
        assert lines == {f"{text} on stdout", f"{text} on stderr", f"{text} from a child process"}
    assert capfd.readouterr() == ("", "")


def test_threads_and_gpu_are_set_before_torch_is_imported(run_tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES"]
    for threads, others in ((1, "2"), (2, "1")):
        monkeypatch.setenv("OMP_NUM_THREADS", others)
        results = run_tasks(work.environment, [names, names], threads=threads, gpus=["5", "7"])
        got = [results[key].value for key in "01"]
        assert [one["threads"] for one in got] == [threads, threads]
        assert [one["torch_imported"] for one in got] == [False, False]
        assert [one["MKL_NUM_THREADS"] for one in got] == [str(threads)] * 2
        assert sorted(one["CUDA_VISIBLE_DEVICES"] for one in got) == ["5", "7"]


def test_threads_default_to_the_cores_divided_by_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert [LocalExecutor(processes=n).threads for n in (1, 2, 3, 16)] == [8, 4, 2, 1]


def test_a_killed_task_runs_again(run_tasks: Any, tmp_path: Path) -> None:
    results = run_tasks(work.die_at_first, [str(tmp_path / "one"), str(tmp_path / "two")])
    assert [results[key].state for key in "01"] == ["done", "done"]
    assert results["0"].value == (tmp_path / "one").read_text()


def test_a_task_that_is_always_killed_reports_the_signal(run_tasks: Any) -> None:
    result = run_tasks(work.die, [0])["0"]
    assert (result.state, result.reason) == (
        "lost",
        "the process was killed by SIGKILL; the machine may have run out of memory",
    )


def test_no_retries(run_tasks: Any, tmp_path: Path) -> None:
    assert run_tasks(work.die_at_first, [str(tmp_path / "one")], retries=0)["0"].state == "lost"


def test_a_process_that_exits_without_a_result(run_tasks: Any) -> None:
    result = run_tasks(work.exit_without_result, [0], retries=0)["0"]
    assert result.reason == "the process exited with code 3 without a result"


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 30
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, path
        time.sleep(0.02)
    return path.read_text()


def has_ended(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_closing_early_stops_running_tasks_with_sigterm(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    tasks = [Task("a", str(tmp_path / "a"), tmp_path / "a.log"), Task("b", None, tmp_path / "b.log")]
    with closing(LocalExecutor(processes=2, threads=1, retries=0).run(tasks, work.sleep_until_sigterm)) as results:
        assert next(results).key == "b"
        pid = int(wait_for(tmp_path / "a" / "pid"))
    assert (tmp_path / "a" / "end").read_text() == "stopped"
    assert has_ended(pid)


def test_closing_early_stops_a_task_that_evaluates_after_its_training(tmp_path: Path) -> None:
    tasks = [Task(name, tmp_path, tmp_path / f"{name}.log") for name in ("a", "b")]
    executor = LocalExecutor(processes=2, threads=1, retries=0)
    with closing(executor.run(tasks, work.train_or_wait)) as results:
        assert next(results).key == "b"
        start = time.monotonic()
    assert time.monotonic() - start < 30
    assert (tmp_path / "run" / "evaluating").exists()


PARENT = """
import sys
from pathlib import Path
from distill.ablation.executors import Task
from distill.ablation.executors import LocalExecutor
from tests.ablation import work

folder = sys.argv[1]
tasks = [Task("a", folder, Path(folder) / "log")]
print(list(LocalExecutor(processes=1, threads=1).run(tasks, work.wait_to_be_killed)))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    root = Path(__file__).parents[2]
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], cwd=root, start_new_session=True)
    pid = int(wait_for(tmp_path / "pid"))
    parent.send_signal(number)
    parent.wait(10)
    assert has_ended(pid)
