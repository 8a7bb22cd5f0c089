"""Who carries out trials: the protocol, and what every process does with one."""

from __future__ import annotations

import pickle
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from distill.errors import InputError, RunError

_STOPPED = 130


@dataclass(frozen=True)
class Task:
    """One trial, as it travels to another process.

    Args:
        key: Which one it is.
        payload: What the function is called with.
        log: File that what it prints goes to.
    """

    key: str
    payload: Any
    log: Path


@dataclass(frozen=True)
class Ended:
    """One trial that came to an end.

    Args:
        key: Which one.
        state: ``done``; ``failed`` where it raised; ``lost`` where its process ended without a word, or was stopped.
        value: What the function returned.
        reason: Why it did not.
    """

    key: str
    state: Literal["done", "failed", "lost"]
    value: Any = None
    reason: str | None = None


class Executor(Protocol):
    """Carries out trials.

    Convention:
        - Every trial ends once, in any order; one that fails stops no other.
        - Closing the iterator early asks the running trials to stop and waits for them.
    """

    def run(self, tasks: Sequence[Task], work: Callable[[Any], Any]) -> Generator[Ended, None, None]:
        """Call a function of a module with the payload of every task, in processes of their own."""


def parcel(task: Task, work: Callable[[Any], Any]) -> bytes:
    """Pack a task, so that nothing is imported before it is opened."""
    return pickle.dumps((task.key, task.payload, work))


def perform(packed: bytes) -> Ended:
    """Open a parcel and do what it says; whatever goes wrong is printed and becomes a reason."""
    key, payload, work = pickle.loads(packed)
    try:
        return Ended(key, "done", work(payload))
    except (InputError, RunError) as error:
        print(f"distill: {error}", file=sys.stderr, flush=True)
        return Ended(key, "lost" if error.exit_code == _STOPPED else "failed", reason=str(error))
    except KeyboardInterrupt:
        return Ended(key, "lost", reason="stopped")
    except BaseException as error:
        traceback.print_exc()
        return Ended(key, "failed", reason=f"{type(error).__name__}: {' '.join(str(error).split())}"[:500])
