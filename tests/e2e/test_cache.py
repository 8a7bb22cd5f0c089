"""`distill cache`, and a run that reads the filled cache."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.helpers import Command
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


def test_a_configuration_without_teacher_is_rejected(distill: Command) -> None:
    result = distill("cache", "student.name=wrn_10_1")
    assert result.code == 2
    assert (
        "teacher: the configuration has no teacher, so there is nothing to cache. Set teacher.checkpoint." in result.err
    )
