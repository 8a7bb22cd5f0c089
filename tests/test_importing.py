"""The hint to install the packages of an extra."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill import importing


def test_the_hint_fits_a_clone_and_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert importing.install_command("export") == 'pip install -e ".[export]"'
    monkeypatch.setattr(importing, "__file__", str(tmp_path / "site-packages" / "distill" / "importing.py"))
    assert importing.install_command("export") == 'pip install "distill-explain[export]"'
