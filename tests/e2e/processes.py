"""Commands in processes of their own that are forked from a server, which has imported torch and distill before.

A process that is started anew imports for several seconds, and `distill ablate` starts one for each run. Here they are
all forked from one server. That the executor starts processes anew is tested in tests/ablation/test_executors.py.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

#: Imported by the server.
PRELOADED = ["tests.e2e.preloaded"]
ROOT = Path(__file__).parents[2]
_CONTEXT = multiprocessing.get_context("forkserver")


class CommandProcess:
    """A running command, in its own process group, with its error output in a file.

    Args:
        arguments: The arguments of `distill`.
        errors: File of the error output.
        sigint: Whether SIGINT is at its default or ignored, as it is in a background job of a shell.
    """

    def __init__(self, arguments: list[str], errors: Path, *, sigint: signal.Handlers = signal.SIG_DFL) -> None:
        self.errors = errors
        _CONTEXT.set_forkserver_preload(PRELOADED)
        self._process: ForkServerProcess = _CONTEXT.Process(target=_run, args=(arguments, errors, sigint))
        before = {name: os.environ.get(name) for name in _SERVER_ENVIRONMENT}
        os.environ.update(_SERVER_ENVIRONMENT)
        try:
            self._process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, or None while the process runs; negative after a signal."""
        return self._process.exitcode

    @property
    def err(self) -> str:
        """The error output up to now."""
        return self.errors.read_text() if self.errors.exists() else ""

    def wait(self, timeout: float) -> int:
        """Wait for the end, and return the exit status."""
        self._process.join(timeout)
        status = self.returncode
        assert status is not None, f"still running after {timeout} s: {self.err}"
        return status


_SERVER_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def _run(arguments: list[str], errors: Path, sigint: signal.Handlers) -> None:
    """Be the command: in a session of its own, with the signals and streams of a command that was started anew."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler if sigint == signal.SIG_DFL else sigint)
    with errors.open("ab") as file, Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(file.fileno(), 2)
    _use_server_for_runs()
    sys.argv = ["distill", *arguments]
    from distill.cli import main

    main()


def _use_server_for_runs() -> None:
    from distill.ablation import executors

    server: Any = forkserver._forkserver
    server.ensure_running = lambda: None  # it runs: this process was forked from it
    executors._SPAWN = _CONTEXT  # type: ignore[assignment]
