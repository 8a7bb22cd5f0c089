from __future__ import annotations

import pytest

from tests.e2e.helpers import Command, command


@pytest.fixture
def distill_command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("COLUMNS", "500")
    return command(monkeypatch, capfd)
