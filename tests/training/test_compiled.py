"""A compiled student has the same losses as an uncompiled one."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from tests.training.helpers import KD, rows, save_teacher, small, train


def test_the_losses_are_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    teacher = f"teacher.checkpoint={save_teacher(tmp_path / 'teacher')}"
    losses = []
    for name, compiled in (("plain", "false"), ("compiled", "true")):
        config = small(tmp_path, *KD, teacher, f"name={name}", f"student.compile={compiled}", "trainer.max_epochs=1")
        run = train(config)
        assert hasattr(run.module._student_forward, "_torchdynamo_orig_callable") is (name == "compiled")
        losses.append({k: float(v) for row in rows(config) for k, v in row.items() if v})
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[0]["train/explanation"] > 1e-3
