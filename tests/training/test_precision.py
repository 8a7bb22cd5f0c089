"""`precision: auto`, and the settings that are passed on to Lightning's Trainer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill.training import RunDirectory
from distill.training.trainer import make_trainer, resolve_precision
from tests.training.helpers import small


@pytest.mark.parametrize(
    ("accelerator", "cuda", "cuda_bf16", "cpu_bf16", "expected"),
    [
        ("auto", True, True, False, "bf16-mixed"),
        ("gpu", True, True, False, "bf16-mixed"),
        ("cuda", True, False, True, "32-true"),
        ("auto", False, False, True, "bf16-mixed"),
        ("cpu", False, False, True, "bf16-mixed"),
        ("cpu", True, True, False, "32-true"),
        ("cpu", True, True, True, "bf16-mixed"),
        ("auto", False, False, False, "32-true"),
        ("mps", False, False, True, "32-true"),
    ],
)
def test_auto_uses_bfloat16_if_the_hardware_supports_it(
    monkeypatch: pytest.MonkeyPatch, accelerator: str, cuda: bool, cuda_bf16: bool, cpu_bf16: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: cuda_bf16)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: cpu_bf16, raising=False)
    assert resolve_precision("auto", accelerator) == expected


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed", 64])
def test_other_precisions_are_unchanged(precision: str | int) -> None:
    assert resolve_precision(precision) == precision


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
def test_the_trainer_uses_the_precision(tmp_path: Path, precision: str) -> None:
    config = small(tmp_path, f"trainer.precision={precision}")
    assert make_trainer(config, _opened(tmp_path)).precision == precision


def test_other_settings_are_passed_to_the_trainer(tmp_path: Path) -> None:
    pairs = ["trainer={gradient_clip_val: 0.5, log_every_n_steps: 7, max_epochs: 9, num_sanity_val_steps: 2}"]
    trainer = make_trainer(small(tmp_path, *pairs), _opened(tmp_path))
    got = (trainer.gradient_clip_val, trainer.log_every_n_steps, trainer.max_epochs, trainer.num_sanity_val_steps)  # type: ignore[attr-defined]
    assert got == (0.5, 7, 9, 2)
    assert trainer.default_root_dir == str(tmp_path)


@pytest.mark.parametrize(("shown", "number"), [(True, 1), (False, 0)])
def test_the_progress_display_can_be_turned_off(tmp_path: Path, shown: bool, number: int) -> None:
    trainer = make_trainer(small(tmp_path, f"trainer.enable_progress_bar={shown}"), _opened(tmp_path))
    names = [type(callback).__name__ for callback in trainer.callbacks]  # type: ignore[attr-defined]
    assert names.count("RunProgress") == number
    assert "TQDMProgressBar" not in names


def _opened(folder: Path) -> RunDirectory:
    folder.mkdir(exist_ok=True)
    return RunDirectory(folder)
