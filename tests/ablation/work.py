"""What executors are given to do in tests: light functions of a module, as other processes need them."""

from __future__ import annotations

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


def break_down(number: int) -> NoReturn:
    raise ZeroDivisionError("by nothing")


def environment(names: list[str]) -> dict[str, Any]:
    imported = "torch" in sys.modules
    import torch

    return {"threads": torch.get_num_threads(), "early": imported, **{name: os.environ.get(name) for name in names}}


def say(text: str) -> None:
    print(f"{text} on stdout")
    print(f"{text} on stderr", file=sys.stderr)
    subprocess.run(["echo", f"{text} from a process of its own"], check=True)


def leave(text: str) -> NoReturn:
    os._exit(3)


def die_at_first(marker: str) -> str:
    """Be killed at the first attempt, and say at the second which process that was."""
    path = Path(marker)
    if not path.exists():
        path.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return path.read_text()


def die(_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def wait_to_be_ended(folder: str) -> str:
    """Leave one's number in a folder; at the first attempt sleep until killed from outside."""
    path = Path(folder) / "pid"
    if path.exists():
        return "second"
    path.write_text(str(os.getpid()))
    time.sleep(60)
    return "first"


def sleep_if_asked(folder: str | None) -> str:
    """Sleep until SIGTERM if there is a folder, and leave a word in it."""
    if folder is None:
        return "awake"

    def stop(number: int, frame: object) -> NoReturn:
        (Path(folder) / "left").write_text("in order")
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    (Path(folder) / "pid").write_text(str(os.getpid()))
    time.sleep(60)
    return "never"


def one_of_many(task: tuple[str, Any]) -> Any:
    """Do one of these, or run a trial, by name."""
    kind, payload = task
    if kind == "real":
        from distill.ablation.trial import run_trial

        return run_trial(payload)
    kinds: dict[str, Callable[[Any], Any]] = {
        "square": square,
        "say": say,
        "fail": odd_ones_fail,
        "wait": wait_to_be_ended,
        "environment": environment,
        "die": die,
    }
    return kinds[kind](payload)
