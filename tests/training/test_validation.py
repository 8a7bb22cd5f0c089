"""Validation metrics, selection of the student, and no side effects of validation on training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.build import load_images
from distill.models import load_model
from distill.training import DistillationModule, RunDirectory
from tests.training.helpers import KD, checkpoint, rows, save_teacher, small, train


def measured(path: Path, *pairs: str) -> tuple[dict[str, float], Tensor]:
    """Return the last validation metrics of a run, and the logits of its last student on the same images."""
    config = small(path, "monitor.select=last", "optimizer.lr=0.02", *pairs)
    train(config)
    row = [row for row in rows(config) if row["validation/accuracy"]][-1]
    images = load_images(config.data, "validation").images.float() / 255
    with torch.no_grad():
        logits = load_model(config.directory)(images)
    return {name: float(value) for name, value in row.items() if value}, logits


def test_metrics_equal_a_computation_by_hand(tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path / "teacher")
    got, logits = measured(tmp_path, *KD, f"teacher.checkpoint={teacher}")
    config = small(tmp_path)
    split = load_images(config.data, "validation")
    assert len(split) == 37  # batches of 16, 16 and 5: the mean over batches would differ
    accuracy = sum(int(a == b) for a, b in zip(logits.argmax(1).tolist(), split.labels.tolist(), strict=True)) / 37
    assert got["validation/accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert 0 < accuracy < 1
    entropy = -sum(float(row.log_softmax(0)[label]) for row, label in zip(logits, split.labels, strict=True)) / 37
    assert got["validation/cross_entropy"] == pytest.approx(entropy, rel=1e-5)
    with torch.no_grad():
        teacher_classes = load_model(teacher)(split.images.float() / 255).argmax(1).tolist()
    agreement = sum(int(a == b) for a, b in zip(logits.argmax(1).tolist(), teacher_classes, strict=True)) / 37
    assert got["validation/agreement"] == pytest.approx(agreement, abs=1e-6)


def test_no_agreement_without_a_teacher(tmp_path: Path) -> None:
    got, _ = measured(tmp_path)
    assert {name for name in got if name.startswith("validation/")} == {
        "validation/accuracy",
        "validation/cross_entropy",
    }


@pytest.mark.parametrize(
    ("monitor", "choose"),
    [
        ("{metric: validation/cross_entropy, mode: min}", min),
        ("{metric: validation/cross_entropy, mode: max}", max),
        ("{metric: validation/accuracy}", max),
        ("{metric: train/loss, mode: min}", min),
    ],
)
def test_the_best_student_is_saved(tmp_path: Path, monitor: str, choose: Any) -> None:
    config = small(tmp_path, f"monitor={monitor}", "optimizer.lr=0.3", "trainer.max_epochs=4")
    train(config)
    values = [float(row[config.monitor.metric]) for row in rows(config) if row[config.monitor.metric]]
    best = checkpoint(RunDirectory(config.directory).best)
    assert best["global_step"] == 4 * (values.index(choose(values)) + 1)
    kept = load_model(config.directory).state_dict()
    assert all(torch.equal(best["state_dict"][f"student.{key}"], value) for key, value in kept.items())


def test_the_last_student_is_saved_with_select_last(tmp_path: Path) -> None:
    config = small(tmp_path, "monitor={metric: validation/cross_entropy, mode: max, select: last}")
    train(config)
    last = checkpoint(RunDirectory(config.directory).last)
    kept = load_model(config.directory).state_dict()
    assert all(torch.equal(last["state_dict"][f"student.{key}"], value) for key, value in kept.items())
    assert last["global_step"] == 12


def test_the_student_is_in_train_mode_before_and_after_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[tuple[str, bool]] = []
    for name in ("training_step", "validation_step"):
        original = getattr(DistillationModule, name)

        def watched(self: DistillationModule, *args: object, name: str = name, original: object = original) -> object:
            modes.append((name, {module.training for module in self.student.modules()} == {True}))
            return original(self, *args)  # type: ignore[operator]

        monkeypatch.setattr(DistillationModule, name, watched)
    config = small(tmp_path, "student.dropout=0.1")
    run = train(config)
    assert modes == [*[("training_step", True)] * 4, *[("validation_step", False)] * 3] * 3
    assert all(module.training for module in run.module.student.modules())


def test_a_run_updates_batch_statistics_once_per_step(tmp_path: Path) -> None:
    config = small(tmp_path, *KD, f"teacher.checkpoint={save_teacher(tmp_path / 'teacher')}", "optimizer.lr=0.01")
    train(config)
    state = checkpoint(RunDirectory(config.directory).last)["state_dict"]
    assert {int(value) for key, value in state.items() if key.endswith("num_batches_tracked")} == {12}
