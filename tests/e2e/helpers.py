"""Run the command line in the test process, or in a subprocess."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from distill.cli import main

TINY = str(Path(__file__).parents[2] / "configs" / "test" / "tiny.yaml")
SMALL = ("data.size=16", "data.count={train: 32, validation: 16}", "data.batch_size=16", "trainer.max_epochs=1")
QUIET = ("trainer.precision=32-true", "trainer.enable_progress_bar=false", "loggers.tensorboard=false")


class CommandResult(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The text on stderr, on one line."""
        return " ".join(self.err.split())


Command = Callable[..., CommandResult]


def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs `distill ...` and checks that no traceback is printed."""

    def distill(*arguments: object) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["distill", *map(str, arguments)])
        monkeypatch.setattr(sys, "path", [*sys.path])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        out, err = capfd.readouterr()
        assert "Traceback" not in err + out
        return CommandResult(code, out, err)

    return distill


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}
