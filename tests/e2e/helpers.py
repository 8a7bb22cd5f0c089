"""The command line, in this process or in one of its own."""

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


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """What a user reads, on one line."""
        return " ".join(self.err.split())


Command = Callable[..., Said]


def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Give `distill ...` as a function that also sees to it that nobody meets a traceback."""

    def distill(*arguments: object) -> Said:
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
        return Said(code, out, err)

    return distill


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}
