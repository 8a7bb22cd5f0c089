"""Executors: the protocol, and an executor that runs tasks in local processes."""

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
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Literal, Protocol

from distill.errors import InputError, RunError, StorageError
from distill.files import describe_storage_error, find_storage_error, storage_errors
from distill.malloc import keep_freed_memory
from distill.untrusted import printable

#: Exit code of an interrupted run.
_INTERRUPTED = 130


@dataclass(frozen=True)
class Task:
    """A task for another process.

    Args:
        key: Unique name.
        payload: Argument of the function; must be picklable.
        log: File for the output of the process.
    """

    key: str
    payload: Any
    log: Path


@dataclass(frozen=True)
class TaskResult:
    """The result of a task.

    Args:
        key: Name of the task.
        state: ``done``; ``failed`` if the function raised; ``lost`` if the process died or was interrupted.
        value: Return value of the function.
        reason: Error message, unless ``done``.
    """

    key: str
    state: Literal["done", "failed", "lost"]
    value: Any = None
    reason: str | None = None


class Executor(Protocol):
    """Interface of an executor.

    Convention:
        - Each task has exactly one result; results come in any order. A failed task does not stop the others.
        - Closing the iterator early asks the running tasks to stop, and waits for them.
    """

    def run(self, tasks: Sequence[Task], work: Callable[[Any], Any]) -> Generator[TaskResult, None, None]:
        """Call a function with the payload of each task, in other processes, and yield the results.

        Args:
            tasks: The tasks.
            work: The function, at the top level of a module.
        """


def pack_task(task: Task, work: Callable[[Any], Any]) -> bytes:
    """Serialise a task; a process imports the modules of the function only when it calls :func:`run_packed`."""
    return pickle.dumps((task.key, task.payload, work))


def run_packed(packed: bytes) -> TaskResult:
    """Run a serialised task; an error is printed and returned as the reason."""
    keep_freed_memory()
    # The bytes come from pack_task through a pipe, never from a file.
    key, payload, work = pickle.loads(packed)  # nosec B301
    try:
        return TaskResult(key, "done", work(payload))
    except (InputError, RunError) as error:
        with suppress(OSError):  # the disk of the log may be full
            print(printable(f"distill: {error}"), file=sys.stderr, flush=True)
        return TaskResult(key, "lost" if error.exit_code == _INTERRUPTED else "failed", reason=str(error))
    except KeyboardInterrupt:
        return TaskResult(key, "lost", reason="interrupted")
    except BaseException as error:
        with suppress(OSError):
            traceback.print_exc()
        cause = find_storage_error(error)
        if cause is not None:
            return TaskResult(key, "failed", reason=describe_storage_error(cause, failed="cannot be read or written"))
        return TaskResult(key, "failed", reason=f"{type(error).__name__}: {' '.join(str(error).split())}"[:500])


#: Environment variables from which libraries read their number of threads when they are imported.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_SPAWN = multiprocessing.get_context("spawn")
#: Seconds to wait for a process that has sent its result.
_EXIT_TIMEOUT = 10.0


@dataclass
class _Worker:
    """A running process and its task."""

    task: Task
    attempt: int
    process: SpawnProcess
    pipe: Connection

    def result(self) -> TaskResult:
        """Receive the result and end the process; without a result, the task is lost."""
        try:
            result: TaskResult | None = self.pipe.recv() if self.pipe.poll() else None
        except EOFError:
            result = None
        self.process.join(_EXIT_TIMEOUT if result else None)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()
        return result or TaskResult(self.task.key, "lost", reason=_exit_reason(self.process.exitcode))


class LocalExecutor:
    """Run tasks in local processes, with a new process for each task.

    Convention:
        - The number of threads and the GPU of a process are set before it imports any library.
        - A process ends when the process that started it ends, even if that is killed.

    Args:
        processes: Number of tasks that run at the same time.
        threads: Threads per process; by default the number of CPU cores divided by ``processes``.
        gpus: GPUs, as CUDA_VISIBLE_DEVICES names them; they are assigned to the processes in turn.
        retries: How often a lost task is run again.
    """

    def __init__(
        self, *, processes: int, threads: int | None = None, gpus: Sequence[str] = (), retries: int = 1
    ) -> None:
        self.processes, self.gpus, self.retries = processes, tuple(gpus), retries
        self.threads = threads or max(1, (os.cpu_count() or 1) // processes)

    def run(self, tasks: Sequence[Task], work: Callable[[Any], Any]) -> Generator[TaskResult, None, None]:
        """Run tasks; see :class:`distill.ablation.executors.Executor`."""
        waiting = deque((task, 1) for task in tasks)
        running: dict[int, _Worker] = {}
        try:
            while waiting or running:
                for slot in range(self.processes):
                    if waiting and slot not in running:
                        running[slot] = self._start(slot, *waiting.popleft(), work)
                ready = wait([part for worker in running.values() for part in (worker.pipe, worker.process.sentinel)])
                for slot, worker in list(running.items()):
                    if worker.pipe in ready or worker.process.sentinel in ready:
                        result = worker.result()
                        del running[slot]
                        if result.state == "lost" and worker.attempt <= self.retries:
                            waiting.appendleft((worker.task, worker.attempt + 1))
                        else:
                            yield result
        finally:
            _stop(running.values())

    def _start(self, slot: int, task: Task, attempt: int, work: Callable[[Any], Any]) -> _Worker:
        environment = dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        receiver, sender = _SPAWN.Pipe(duplex=False)
        arguments = (environment, task.log, sender, pack_task(task, work))
        process = _SPAWN.Process(target=_run_worker, args=arguments, name=task.key)
        process.start()
        sender.close()
        return _Worker(task, attempt, process, receiver)


def _run_worker(environment: dict[str, str], log: Path, pipe: Connection, packed: bytes) -> None:
    """Main function of a process, in its own process group: Ctrl-C reaches the parent only, which stops the workers."""
    os.setpgrp()
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    os.environ.update(environment)
    try:
        redirect_output(log)
    except StorageError as error:
        pipe.send(TaskResult(multiprocessing.current_process().name, "failed", reason=str(error)))
        return
    pipe.send(run_packed(packed))


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)


def redirect_output(log: Path) -> None:
    """Append the output of this process, including that of C libraries and child processes, to a file.

    Raises:
        StorageError: if the file cannot be written.
    """
    with storage_errors(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)


def _stop(workers: Iterable[_Worker]) -> None:
    """Send SIGTERM to all workers, which save and exit, and wait for them; on a second Ctrl-C, kill them."""
    workers = list(workers)
    for worker in workers:
        worker.process.terminate()
    try:
        for worker in workers:
            worker.process.join()
    except KeyboardInterrupt:
        for worker in workers:
            worker.process.kill()
        raise


def _exit_reason(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        memory = "; the machine may have run out of memory" if name == "SIGKILL" else ""
        return f"the process was killed by {name}{memory}"
    return f"the process exited with code {code} without a result"
