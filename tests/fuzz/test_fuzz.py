"""300 damaged files: an error that names the file, or unchanged values; never a traceback, a hang or other values."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distill.errors import InputError
from tests.fuzz import harness
from tests.fuzz.harness import BROKEN, run_cases, table
from tests.fuzz.mutations import OF_BYTES, OF_PLACES
from tests.fuzz.targets import Target, make_targets


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def targets(folder: Path) -> list[Target]:
    return make_targets(folder)


@pytest.mark.parametrize("part", range(3))
def test_damaged_files_are_refused_with_a_message_that_names_them(
    targets: list[Target], folder: Path, part: int
) -> None:
    numbers = sorted(random.Random(part).sample(range(5000), 100))
    cases = list(run_cases(targets, folder, seed=1, numbers=numbers))
    assert len(cases) == 100
    assert [case for case in cases if case.outcome in BROKEN] == []


def test_the_files_are_whole_again_after_the_cases(targets: list[Target], folder: Path) -> None:
    before = {target.name: target.read(folder) for target in targets}
    list(run_cases(targets, folder, seed=2, numbers=range(0, 300, 7)))
    assert {target.name: target.read(folder) for target in targets} == before


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "a.bin").write_bytes(bytes(100))
    yield tmp_path / "a.bin"
    assert (tmp_path / "a.bin").read_bytes() == bytes(100)


def outcomes(file: Path, read: Any) -> set[str]:
    numbers = range(len(OF_BYTES) + len(OF_PLACES))
    cases = list(run_cases([Target("a", file.name, read)], file.parent, seed=0, numbers=numbers))
    assert table(cases).count("\n") == 3
    return {case.outcome for case in cases}


def test_each_outcome_is_recognised(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def checked(message: str) -> Any:
        def read(folder: Path) -> str:
            if not file.is_file() or file.read_bytes() != bytes(100):
                raise InputError(message)
            return "whole"

        return read

    def slow(folder: Path) -> None:
        if not file.is_file():
            time.sleep(5)

    assert outcomes(file, checked("a.bin is damaged")) == {"clear"}
    assert outcomes(file, checked("something is wrong")) == {"unclear"}
    assert outcomes(file, lambda folder: "always the same") == {"unchanged"}
    assert outcomes(file, lambda folder: file.read_bytes()) == {"silent", "traceback"}
    monkeypatch.setattr(harness, "PATIENCE", 1)
    assert outcomes(file, slow) == {"unchanged", "hang"}
