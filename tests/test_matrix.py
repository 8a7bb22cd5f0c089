"""`scripts/matrix`: lower bounds are read from pyproject.toml, and what cannot be installed is said to be not tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import matrix

ROOT = Path(__file__).parents[1]


def test_every_dependency_has_a_lower_bound() -> None:
    bounds = matrix.lower_bounds((ROOT / "pyproject.toml").read_text())
    names = [bound.partition("==")[0] for bound in bounds]
    assert set(matrix.SHOWN) <= set(names)
    assert len(names) == len(set(names)) >= 20


def test_a_version_of_python_that_is_missing_is_not_tried(tmp_path: Path) -> None:
    row = matrix.try_environment(matrix.Environment("old", "2.99"), tmp_path)
    assert row["result"] == "not tried: no Python 2.99 here"
    assert matrix.table([row]).splitlines()[-1].startswith("| old | 2.99 | – |")


def test_a_failed_test_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(matrix, "try_environment", lambda *_, **__: {"environment": "oldest", "result": "1 failed"})
    assert matrix.main(["oldest", "--folder", str(tmp_path)]) == 1


def test_the_documented_table_has_the_lower_bounds() -> None:
    page = (ROOT / "docs" / "compatibility.md").read_text()
    (oldest,) = [line for line in page.splitlines() if line.startswith("| oldest |")]
    cells = [cell.strip() for cell in oldest.split("|")[3:]]
    pinned = dict(bound.split("==") for bound in matrix.lower_bounds((ROOT / "pyproject.toml").read_text()))
    for name, version in zip(matrix.SHOWN, cells, strict=False):
        assert f"{version}.".startswith(f"{pinned[name]}."), name
