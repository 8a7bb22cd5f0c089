"""`RayExecutor`: runs tasks on Ray, locally or on a cluster."""

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
from distill.importing import install_command

#: Seconds to wait for cancelled tasks, and for a connection to the cluster.
_CANCEL_TIMEOUT, _CONNECT_TIMEOUT = 60.0, 10.0


class RayExecutor:
    """Run tasks on Ray, on this machine or on a cluster.

    Convention:
        - The folders of the runs must be on a file system that all machines share. A log that is not visible on the
          driver's machine is sent back with the result.
        - Ray's dashboard and usage reports are disabled.

    Args:
        processes: Number of tasks that run at the same time on this machine; a cluster decides by its resources.
        threads: CPUs and threads per task; by default 1 on a cluster, else the CPU cores divided by ``processes``.
        gpus: GPUs per task; by default 1 if the cluster has GPUs.
        address: Address of a cluster; None for this machine.
        retries: How often a task is run again if its worker was lost.
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
        """Run tasks; see :class:`distill.ablation.executors.Executor`."""
        ray = _import_ray()
        with self._connected(ray):
            gpus = self.gpus if self.gpus is not None else float(ray.cluster_resources().get("GPU", 0) > 0)
            remote = ray.remote(num_cpus=self.threads, num_gpus=gpus, max_retries=self.retries)(_run_on_worker)
            waiting = {remote.remote(pack_task(task, work), str(task.log)): task for task in tasks}
            try:
                while waiting:
                    (ready,), _ = ray.wait(list(waiting))
                    yield _receive(ray, ready, waiting.pop(ready))
            finally:
                for reference in waiting:
                    ray.cancel(reference)
                if waiting:
                    ray.wait(list(waiting), num_returns=len(waiting), timeout=_CANCEL_TIMEOUT)

    @contextmanager
    def _connected(self, ray: Any) -> Iterator[None]:
        arguments: dict[str, Any] = {"num_cpus": self.processes * self.threads, "include_dashboard": False}
        if self.address:
            _check_reachable(self.address)
            arguments = {"address": self.address}
        environment = {"env_vars": dict.fromkeys(THREAD_VARIABLES, str(self.threads))}
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(**arguments, runtime_env=environment, log_to_driver=False, logging_level="warning")
            signal.signal(signal.SIGTERM, handler)  # Ray's own handler exits without cleaning up
        except ConnectionError as error:
            raise InputError(f"executor.address: no Ray cluster at {self.address!r}: {error}") from error
        try:
            yield
        finally:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Check that host:port accepts connections; Ray itself retries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT).close()
        except OSError as error:
            raise InputError(f"executor.address: no Ray cluster at {address!r}: {error}") from error


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError(
            f"executor.name: ray is not installed. Run `{install_command('ray')}`, or set executor.name=local."
        ) from error
    return ray


def _receive(ray: Any, reference: Any, task: Task) -> TaskResult:
    try:
        result, log = ray.get(reference)
    except ray.exceptions.RayError as error:
        return TaskResult(task.key, "lost", reason=" ".join(str(error).split())[:500])
    if not task.log.exists():
        task.log.parent.mkdir(parents=True, exist_ok=True)
        task.log.write_bytes(log)
    return result


def _run_on_worker(packed: bytes, log: str) -> tuple[TaskResult, bytes]:
    """Run a serialised task with its output redirected; the worker process is used again, so the output is restored."""
    saved = [os.dup(stream) for stream in (1, 2)]
    redirect_output(Path(log))
    try:
        return run_packed(packed), Path(log).read_bytes()
    finally:
        for stream, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, stream)
            os.close(copy)
