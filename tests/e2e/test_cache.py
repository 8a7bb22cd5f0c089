"""`distill cache`, and a run that reads the filled cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.teachers.journal import Journal
from tests.e2e.helpers import Command
from tests.e2e.processes import CommandProcess
from tests.training.helpers import save_teacher

PAIRS = (
    "data={name: fashion_scenes, size: 16, count: {train: 64, validation: 32}, batch_size: 16}",
    "student.name=wrn_10_1",
    "trainer={max_epochs: 1, accelerator: cpu, precision: 32-true}",
    "objective={soft_targets: {weight: 0.9}, explanation: {weight: 5}}",
)


def test_fill_and_use(distill: Command, tmp_path: Path) -> None:
    given = (*PAIRS, f"output_dir={tmp_path}", f"teacher.checkpoint={save_teacher(tmp_path / 'teacher')}")
    filled = distill("cache", *given)
    assert filled.code == 0
    assert f"96 views, 0 of them already cached; the cache is in {tmp_path / 'teacher_cache'}" in filled.err
    assert "96 of them already cached" in distill("cache", *given).err
    trained = distill("train", *given, "teacher.cache=disk")
    assert trained.code == 0
    assert f"teacher cache: 64 views, 7.2 kB in {tmp_path / 'teacher_cache'}; 64 views already cached" in trained.err


def cached_rows(folder: Path) -> dict[str, dict[int, list[float]]]:
    """Return the rows of all journals by folder and key, as another process would read them."""
    found = {}
    for key in sorted(folder.glob("*/key.json")):
        journal = Journal(key.with_name("rows.bin"), json.loads(key.read_text())["width"])
        rows: dict[int, list[float]] = {}
        for chunk in journal.read_new():
            for number, start in zip(chunk.keys.tolist(), chunk.starts.tolist(), strict=True):
                rows.setdefault(number, journal.values()[start : start + journal.width].tolist())
        found[key.parent.name] = rows
    return found


def test_two_processes_can_fill_a_cache_at_once(distill: Command, tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path / "teacher")
    given = (*PAIRS, f"teacher.checkpoint={teacher}", "teacher.cache=disk")
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    assert distill("cache", *given, f"output_dir={alone}").code == 0
    arguments = ["cache", *given, f"output_dir={shared}"]
    running = [CommandProcess(arguments, tmp_path / f"{number}.err") for number in range(2)]
    for process in running:
        assert process.wait(120) == 0, process.err
    expected = cached_rows(alone / "teacher_cache")
    assert len(expected) == 3  # logits and maps of the training images, logits of the validation images
    got = cached_rows(shared / "teacher_cache")
    assert {name: set(rows) for name, rows in got.items()} == {name: set(rows) for name, rows in expected.items()}
    for name, rows in expected.items():
        for key, row in rows.items():
            assert got[name][key] == pytest.approx(row, abs=1e-5), (name, key)
    assert "96 of them already cached" in distill("cache", *given, f"output_dir={shared}").err


def test_a_configuration_without_teacher_is_rejected(distill: Command) -> None:
    result = distill("cache", "student.name=wrn_10_1")
    assert result.code == 2
    assert (
        "teacher: the configuration has no teacher, so there is nothing to cache. Set teacher.checkpoint." in result.err
    )
