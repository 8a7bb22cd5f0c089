"""Processes of this machine: all results, whatever happens to some."""

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
def carry_out(tmp_path: Path) -> Callable[..., dict[str, TaskResult]]:
    def run(function: Callable[[Any], Any], payloads: list[Any], **settings: Any) -> dict[str, TaskResult]:
        tasks = [Task(str(i), payload, tmp_path / "logs" / f"{i}.log") for i, payload in enumerate(payloads)]
        ended = list(LocalExecutor(**{"processes": 2, "threads": 1, **settings}).run(tasks, function))
        assert sorted(one.key for one in ended) == sorted(task.key for task in tasks)  # each once
        return {one.key: one for one in ended}

    return run


def test_all_results_come_back(carry_out: Any) -> None:
    ended = carry_out(work.square, [0, 1, 2, 3, 4])
    assert {key: one.value for key, one in ended.items()} == {"0": 0, "1": 1, "2": 4, "3": 9, "4": 16}
    assert {one.state for one in ended.values()} == {"done"}


def test_one_that_fails_stops_no_other(carry_out: Any) -> None:
    ended = carry_out(work.odd_ones_fail, [0, 1, 2])
    assert [ended[key].state for key in "012"] == ["done", "failed", "done"]
    assert ended["1"].reason == "1 is odd; give an even one."


def test_an_error_that_nobody_expected_has_a_reason_and_its_traceback_in_the_log(
    carry_out: Any, tmp_path: Path
) -> None:
    ended = carry_out(work.break_down, [1])["0"]
    assert (ended.state, ended.reason) == ("failed", "ZeroDivisionError: by nothing")
    assert "in break_down" in (tmp_path / "logs" / "0.log").read_text()


def test_what_is_printed_goes_to_the_log(carry_out: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    carry_out(work.say, ["a", "b"])
    for i, text in enumerate("ab"):
        said = set((tmp_path / "logs" / f"{i}.log").read_text().splitlines())
        assert said == {f"{text} on stdout", f"{text} on stderr", f"{text} from a process of its own"}
    assert capfd.readouterr() == ("", "")


def test_threads_and_graphics_processor_are_set_before_torch_is_there(
    carry_out: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES"]
    for threads, others in ((1, "2"), (2, "1")):
        monkeypatch.setenv("OMP_NUM_THREADS", others)
        ended = carry_out(work.environment, [names, names], threads=threads, gpus=["5", "7"])
        got = [ended[key].value for key in "01"]
        assert [one["threads"] for one in got] == [threads, threads]
        assert [one["early"] for one in got] == [False, False]
        assert [one["MKL_NUM_THREADS"] for one in got] == [str(threads)] * 2
        assert sorted(one["CUDA_VISIBLE_DEVICES"] for one in got) == ["5", "7"]


def test_threads_are_the_cores_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert [LocalExecutor(processes=n).threads for n in (1, 2, 3, 16)] == [8, 4, 2, 1]


def test_a_killed_one_is_tried_again(carry_out: Any, tmp_path: Path) -> None:
    ended = carry_out(work.die_at_first, [str(tmp_path / "one"), str(tmp_path / "two")])
    assert [ended[key].state for key in "01"] == ["done", "done"]
    assert ended["0"].value == (tmp_path / "one").read_text()


def test_one_that_is_always_killed_says_by_what(carry_out: Any) -> None:
    ended = carry_out(work.die, [0])["0"]
    assert (ended.state, ended.reason) == (
        "lost",
        "its process was ended by SIGKILL; the machine may have run out of memory",
    )


def test_no_retries_if_none_are_wanted(carry_out: Any, tmp_path: Path) -> None:
    assert carry_out(work.die_at_first, [str(tmp_path / "one")], retries=0)["0"].state == "lost"


def test_one_that_leaves_without_a_word(carry_out: Any) -> None:
    assert carry_out(work.leave, [0], retries=0)["0"].reason == "its process ended without a word (exit code 3)"


def appears(path: Path) -> str:
    deadline = time.monotonic() + 30
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, path
        time.sleep(0.02)
    return path.read_text()


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_closing_early_lets_the_running_ones_leave_in_order(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    tasks = [Task("a", str(tmp_path / "a"), tmp_path / "a.log"), Task("b", None, tmp_path / "b.log")]
    with closing(LocalExecutor(processes=2, threads=1, retries=0).run(tasks, work.sleep_if_asked)) as endings:
        assert next(endings).key == "b"
        pid = int(appears(tmp_path / "a" / "pid"))
    assert (tmp_path / "a" / "left").read_text() == "in order"
    assert gone(pid)


PARENT = """
import sys
from pathlib import Path
from distill.ablation.executors import Task
from distill.ablation.executors import LocalExecutor
from tests.ablation import work

folder = sys.argv[1]
print(list(LocalExecutor(processes=1, threads=1).run([Task("a", folder, Path(folder) / "log")], work.wait_to_be_ended)))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_one_that_started_it(tmp_path: Path, number: signal.Signals) -> None:
    root = Path(__file__).parents[2]
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], cwd=root, start_new_session=True)
    pid = int(appears(tmp_path / "pid"))
    parent.send_signal(number)
    parent.wait(10)
    assert gone(pid)
