"""Trials on Ray: it schedules, places, and starts again what was lost with its worker."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distill.ablation.executors import (
    THREAD_VARIABLES,
    Task,
    TaskResult,
    pack_task,
    redirect_output,
    run_packed,
)
from distill.errors import InputError

_PATIENCE, _REACHED = 60.0, 10.0


class RayExecutor:
    """Hand trials to Ray, on this machine by itself or on a cluster.

    Convention:
        - Folders of runs lie where all machines see them; a log that the driver cannot see comes back with the result.
        - Ray's dashboard and usage reports are off.

    Args:
        processes: Trials at a time on this machine by itself; a cluster holds as many as it has room for.
        threads: Processors and threads of each; on a cluster 1 if left out.
        gpus: Graphics processors of each; 1 if left out and there are any.
        address: Of a cluster.
        retries: How often a trial is tried again whose worker was lost.
    """

    def __init__(
        self,
        *,
        processes: int,
        threads: int | None = None,
        gpus: float | None = None,
        address: str | None = None,
        retries: int = 1,
    ) -> None:
        self.processes, self.gpus, self.address, self.retries = processes, gpus, address, retries
        self.threads = threads or (1 if address else max(1, (os.cpu_count() or 1) // processes))

    def run(self, tasks: Sequence[Task], work: Callable[[Any], Any]) -> Generator[TaskResult, None, None]:
        """Carry out trials; see :class:`distill.ablation.executors.Executor`."""
        ray = _import_ray()
        with self._connected(ray):
            gpus = self.gpus if self.gpus is not None else float(ray.cluster_resources().get("GPU", 0) > 0)
            remote = ray.remote(num_cpus=self.threads, num_gpus=gpus, max_retries=self.retries)(_perform)
            waiting = {remote.remote(pack_task(task, work), str(task.log)): task for task in tasks}
            try:
                while waiting:
                    (ready,), _ = ray.wait(list(waiting))
                    yield _hear(ray, ready, waiting.pop(ready))
            finally:
                for reference in waiting:
                    ray.cancel(reference)
                if waiting:
                    ray.wait(list(waiting), num_returns=len(waiting), timeout=_PATIENCE)

    @contextmanager
    def _connected(self, ray: Any) -> Iterator[None]:
        where: dict[str, Any] = {"num_cpus": self.processes * self.threads, "include_dashboard": False}
        if self.address:
            _reach(self.address)
            where = {"address": self.address}
        environment = {"env_vars": dict.fromkeys(THREAD_VARIABLES, str(self.threads))}
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(**where, runtime_env=environment, log_to_driver=False, logging_level="warning")
            signal.signal(signal.SIGTERM, handler)  # Ray would leave without a word
        except ConnectionError as error:
            raise InputError(f"executor.address: no Ray cluster answers at {self.address!r}: {error}") from error
        try:
            yield
        finally:
            ray.shutdown()


def _reach(address: str) -> None:
    """See that somebody listens at host:port; Ray itself would try for minutes."""
    host, mark, port = address.removeprefix("ray://").rpartition(":")
    if mark and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=_REACHED).close()
        except OSError as error:
            raise InputError(f"executor.address: no Ray cluster answers at {address!r}: {error}") from error


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError(
            'executor.name=ray needs Ray: pip install "distill-explain[ray]", or take executor.name=local.'
        ) from error
    return ray


def _hear(ray: Any, reference: Any, task: Task) -> TaskResult:
    try:
        ended, words = ray.get(reference)
    except ray.exceptions.RayError as error:
        return TaskResult(task.key, "lost", reason=" ".join(str(error).split())[:500])
    if not task.log.exists():
        task.log.parent.mkdir(parents=True, exist_ok=True)
        task.log.write_bytes(words)
    return ended


def _perform(packed: bytes, log: str) -> tuple[TaskResult, bytes]:
    """Do what a parcel says in a worker that will do others after it."""
    kept = [os.dup(stream) for stream in (1, 2)]
    redirect_output(Path(log))
    try:
        return run_packed(packed), Path(log).read_bytes()
    finally:
        for stream, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, stream)
            os.close(copy)
