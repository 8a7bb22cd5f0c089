"""Executors: the protocol, and one that runs trials in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
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
class TaskResult:
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

    def run(self, tasks: Sequence[Task], work: Callable[[Any], Any]) -> Generator[TaskResult, None, None]:
        """Call a function of a module with the payload of every task, in processes of their own."""


def pack_task(task: Task, work: Callable[[Any], Any]) -> bytes:
    """Pack a task, so that nothing is imported before it is opened."""
    return pickle.dumps((task.key, task.payload, work))


def run_packed(packed: bytes) -> TaskResult:
    """Open a parcel and do what it says; whatever goes wrong is printed and becomes a reason."""
    key, payload, work = pickle.loads(packed)
    try:
        return TaskResult(key, "done", work(payload))
    except (InputError, RunError) as error:
        print(f"distill: {error}", file=sys.stderr, flush=True)
        return TaskResult(key, "lost" if error.exit_code == _STOPPED else "failed", reason=str(error))
    except KeyboardInterrupt:
        return TaskResult(key, "lost", reason="stopped")
    except BaseException as error:
        traceback.print_exc()
        return TaskResult(key, "failed", reason=f"{type(error).__name__}: {' '.join(str(error).split())}"[:500])


#: What libraries read for the number of their threads, before they are imported.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_SPAWN = multiprocessing.get_context("spawn")
_PATIENCE = 10.0


@dataclass
class _Child:
    task: Task
    attempt: int
    process: SpawnProcess
    pipe: Connection

    def ended(self) -> TaskResult:
        """Hear how it ended; a process that ended without a word is lost."""
        try:
            ended: TaskResult | None = self.pipe.recv() if self.pipe.poll() else None
        except EOFError:
            ended = None
        self.process.join(_PATIENCE if ended else None)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()
        return ended or TaskResult(self.task.key, "lost", reason=_exit_reason(self.process.exitcode))


class LocalExecutor:
    """Keep so many processes busy; a fresh one a trial, so that none is harmed by what another left behind.

    Convention:
        - Threads and the graphics processor of a process are set before it imports anything that could take more.
        - A process ends with the one that started it, however that ends.

    Args:
        processes: Trials at a time.
        threads: Threads of each; the cores of the machine, divided, if left out.
        gpus: Names of the graphics processors, as CUDA_VISIBLE_DEVICES takes them; they are dealt out in turn.
        retries: How often a trial is tried again whose process was lost.
    """

    def __init__(
        self, *, processes: int, threads: int | None = None, gpus: Sequence[str] = (), retries: int = 1
    ) -> None:
        self.processes, self.gpus, self.retries = processes, tuple(gpus), retries
        self.threads = threads or max(1, (os.cpu_count() or 1) // processes)

    def run(self, tasks: Sequence[Task], work: Callable[[Any], Any]) -> Generator[TaskResult, None, None]:
        """Carry out trials; see :class:`distill.ablation.executors.Executor`."""
        waiting = deque((task, 1) for task in tasks)
        running: dict[int, _Child] = {}
        try:
            while waiting or running:
                for slot in range(self.processes):
                    if waiting and slot not in running:
                        running[slot] = self._start(slot, *waiting.popleft(), work)
                ready = wait([part for child in running.values() for part in (child.pipe, child.process.sentinel)])
                for slot, child in list(running.items()):
                    if child.pipe in ready or child.process.sentinel in ready:
                        ended = child.ended()
                        del running[slot]
                        if ended.state == "lost" and child.attempt <= self.retries:
                            waiting.appendleft((child.task, child.attempt + 1))
                        else:
                            yield ended
        finally:
            _stop(running.values())

    def _start(self, slot: int, task: Task, attempt: int, work: Callable[[Any], Any]) -> _Child:
        environment = dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        ours, theirs = _SPAWN.Pipe(duplex=False)
        arguments = (environment, task.log, theirs, pack_task(task, work))
        process = _SPAWN.Process(target=_run_child, args=arguments, name=task.key)
        process.start()
        theirs.close()
        return _Child(task, attempt, process, ours)


def _run_child(environment: dict[str, str], log: Path, pipe: Connection, packed: bytes) -> None:
    """Be one process: out of reach of the terminal's Ctrl-C, which the parent passes on."""
    os.setpgrp()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(environment)
    redirect_output(log)
    pipe.send(run_packed(packed))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)


def redirect_output(log: Path) -> None:
    """Send what this process prints, in whatever language, to the end of a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)


def _stop(children: Iterable[_Child]) -> None:
    """Ask all to save and leave, and wait; a second Ctrl-C does not wait."""
    children = list(children)
    for child in children:
        child.process.terminate()
    try:
        for child in children:
            child.process.join()
    except KeyboardInterrupt:
        for child in children:
            child.process.kill()
        raise


def _exit_reason(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        memory = "; the machine may have run out of memory" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{memory}"
    return f"its process ended without a word (exit code {code})"
