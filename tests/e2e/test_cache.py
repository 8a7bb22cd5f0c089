"""`distill cache` and a run that uses what it filled, as a user types them."""

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


def test_filled_ahead_and_used(distill: Command, tmp_path: Path) -> None:
    given = (*PAIRS, f"output_dir={tmp_path}", f"teacher.checkpoint={save_teacher(tmp_path / 'teacher')}")
    filled = distill("cache", *given)
    assert filled.code == 0
    assert f"96 views met, 0 of them cached already; the cache is in {tmp_path / 'teacher_cache'}" in filled.err
    assert "96 of them cached already" in distill("cache", *given).err
    trained = distill("train", *given, "teacher.cache=disk")
    assert trained.code == 0
    assert f"teacher cache: 64 views, 7.2 kB in {tmp_path / 'teacher_cache'}; 64 views already cached" in trained.err


def test_without_a_teacher_there_is_nothing_to_keep(distill: Command) -> None:
    refused = distill("cache", "student.name=wrn_10_1")
    assert refused.code == 2
    assert "the configuration has no teacher, so there is nothing to keep; give teacher.checkpoint." in refused.err
