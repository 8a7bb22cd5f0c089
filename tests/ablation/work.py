"""Functions that executors run in tests; at module level, so that other processes can import them."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from distill.errors import InputError


def square(number: int) -> int:
    return number * number


def odd_ones_fail(number: int) -> int:
    if number % 2:
        raise InputError(f"{number} is odd; give an even one.")
    return number


def fill_the_disk(number: int) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device", "answers.bin")


def break_down(number: int) -> NoReturn:
    raise ZeroDivisionError("division by zero")


def environment(names: list[str]) -> dict[str, Any]:
    imported = "torch" in sys.modules
    import torch

    return {
        "threads": torch.get_num_threads(),
        "torch_imported": imported,
        **{name: os.environ.get(name) for name in names},
    }


def say(text: str) -> None:
    print(f"{text} on stdout")
    print(f"{text} on stderr", file=sys.stderr)
    subprocess.run(["echo", f"{text} from a child process"], check=True)


def exit_without_result(text: str) -> NoReturn:
    os._exit(3)


def die_at_first(marker: str) -> str:
    """Kill this process at the first attempt; at the second, return the number of the killed process."""
    path = Path(marker)
    if not path.exists():
        path.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return path.read_text()


def die(_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def wait_to_be_killed(folder: str) -> str:
    """Write the process number to a folder, and at the first attempt sleep until killed."""
    path = Path(folder) / "pid"
    if path.exists():
        return "second"
    path.write_text(str(os.getpid()))
    time.sleep(60)
    return "first"


def sleep_until_sigterm(folder: str | None) -> str:
    """If a folder is given, sleep until SIGTERM and then write a file to it."""
    if folder is None:
        return "awake"

    def stop(number: int, frame: object) -> NoReturn:
        (Path(folder) / "end").write_text("stopped")
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    (Path(folder) / "pid").write_text(str(os.getpid()))
    time.sleep(60)
    return "never"


def one_of_many(task: tuple[str, Any]) -> Any:
    """Run one of these functions, or a trial, by name."""
    kind, payload = task
    if kind == "real":
        from distill.ablation.trial import run_trial

        return run_trial(payload)
    functions: dict[str, Callable[[Any], Any]] = {
        "square": square,
        "say": say,
        "fail": odd_ones_fail,
        "wait": wait_to_be_killed,
        "environment": environment,
        "die": die,
    }
    return functions[kind](payload)


def train_or_wait(folder: Path) -> None:
    """In the first task, train a run and then wait, as a child that evaluates does; in the second, wait for that."""
    evaluating = folder / "run" / "evaluating"
    if multiprocessing.current_process().name == "b":
        while not evaluating.exists():
            time.sleep(0.05)
        return
    from distill.workflows.train import train_config
    from tests.training.helpers import small

    train_config(small(folder, "trainer.max_epochs=1", "data.count={train: 32, validation: 16}"))
    evaluating.touch()
    time.sleep(600)
