"""The selected weights are those that the monitored metric was measured with."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.build import build, load_images
from distill.config import Config
from distill.errors import InputError, InputWarning
from distill.models import load_model
from distill.training import RunDirectory, fit
from distill.types import Batch
from distill.workflows.run import selected_metrics
from tests.training.helpers import CrashError, checkpoint, crash_at, rows, small, train

LOSS = "monitor={metric: validation/cross_entropy, mode: min}"


def loss_of(config: Config, path: Path) -> float:
    data = load_images(config.data, "validation")
    with torch.no_grad():
        logits = load_model(path)(data.images.float() / 255)
    return float(torch.nn.functional.cross_entropy(logits, data.labels))


@pytest.mark.parametrize("interval", ["0.5", "3", "1"])
def test_the_best_weights_are_saved_where_they_are_measured(tmp_path: Path, interval: str) -> None:
    config = small(
        tmp_path, LOSS, f"trainer.val_check_interval={interval}", "optimizer.lr=0.03", "trainer.max_epochs=2"
    )
    train(config)
    measured = [
        (float(row["validation/cross_entropy"]), row) for row in rows(config) if row["validation/cross_entropy"]
    ]
    best, row = min(measured, key=lambda pair: pair[0])
    assert loss_of(config, RunDirectory(config.directory).best) == pytest.approx(best, rel=1e-4)
    assert loss_of(config, config.directory) == pytest.approx(best, rel=1e-4)
    assert checkpoint(RunDirectory(config.directory).best)["global_step"] == int(row["step"]) + 1
    assert selected_metrics(config)["validation/cross_entropy"] == best
    assert selected_metrics(config)["validation/accuracy"] == float(row["validation/accuracy"])


def test_the_best_score_of_an_older_checkpoint_is_found(tmp_path: Path) -> None:
    config = small(tmp_path, "trainer.max_epochs=1")
    train(config)
    keys = checkpoint(RunDirectory(config.directory).last)["callbacks"]
    assert [key.partition("{")[0] for key in keys if "validation/accuracy" in key] == ["ModelCheckpoint"]


@pytest.mark.parametrize("original", ["kept", "gone"])
@pytest.mark.parametrize("every", [(), ("checkpoint.every_n_steps=1",)])
def test_the_best_checkpoint_of_a_moved_run_stays_the_best(
    tmp_path: Path, original: str, every: tuple[str, ...]
) -> None:
    """The learning rate falls, so the first epoch is the best; the run is moved in the second."""
    falling = ("monitor={metric: train/learning_rate, mode: max}", "optimizer.lr=0.01", *every)
    config = small(tmp_path / "old", *falling)
    with pytest.raises(CrashError):
        train(config, before_step=crash_at(6))
    before = RunDirectory(config.directory).best.read_bytes()
    moved = small(tmp_path / "new" / "deeper", *falling)
    shutil.copytree(config.directory, moved.directory)
    if original == "gone":
        shutil.rmtree(config.directory)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*dirpath has changed.*")
        train(moved)
    assert checkpoint(RunDirectory(moved.directory).best)["global_step"] == 4
    weights = checkpoint(RunDirectory(moved.directory).best)["state_dict"]["student.network.fc.weight"]
    assert torch.equal(load_model(moved.directory).network.state_dict()["fc.weight"], weights)
    if original == "kept":
        assert RunDirectory(config.directory).best.read_bytes() == before


def test_a_later_better_epoch_of_a_moved_run_replaces_the_best(tmp_path: Path) -> None:
    rising = ("monitor={metric: train/learning_rate, mode: min}", "optimizer.lr=0.01")
    config = small(tmp_path / "old", *rising)
    with pytest.raises(CrashError):
        train(config, before_step=crash_at(6))
    moved = small(tmp_path / "new", *rising)
    moved.directory.parent.mkdir()
    config.directory.rename(moved.directory)
    train(moved)
    assert checkpoint(RunDirectory(moved.directory).best)["global_step"] == 12


@pytest.mark.parametrize("done", ["resumed", "not resumed"])
def test_a_best_checkpoint_that_is_gone_is_refused(tmp_path: Path, done: str) -> None:
    falling = ("monitor={metric: train/learning_rate, mode: max}", "optimizer.lr=0.01")
    config = small(tmp_path, *falling)
    best = RunDirectory(config.directory).best
    if done == "resumed":
        with pytest.raises(CrashError):
            train(config, before_step=crash_at(6))
        best.unlink()
    else:

        def remove(step: int) -> None:
            best.unlink(missing_ok=True)

    with pytest.raises(InputError, match=rf"^{best} is gone, although this run saved it\. Copy it back"):
        train(config) if done == "resumed" else train(config, before_step=remove)
    assert not RunDirectory(config.directory).weights.exists()


def test_overfit_batches_repeats_the_same_batches(tmp_path: Path) -> None:
    config = small(tmp_path, "trainer.overfit_batches=2", "monitor.select=last")
    run = build(config)
    seen: list[list[int]] = []
    step = run.module.training_step

    def watched(batch: Batch, batch_idx: int = 0) -> Any:
        seen.append(batch.index.tolist())
        return step(batch, batch_idx)

    run.module.training_step = watched  # type: ignore[method-assign]
    RunDirectory(config.directory).open(config, run.identity)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*overfit.*")
        fit(run.module, run.data, config)
    assert seen == [list(range(16)), list(range(16, 32))] * 3


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["trainer.limit_val_batches=0"], "trainer.limit_val_batches is 0, so it is never measured. Change"),
        (["trainer.check_val_every_n_epoch=5"], "trainer.check_val_every_n_epoch is 5, but there are 3 epochs"),
    ],
)
def test_a_best_epoch_needs_a_validation(tmp_path: Path, pairs: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(small(tmp_path, *pairs))
    assert build(small(tmp_path, *pairs, "monitor.select=last")).module is not None
    assert build(small(tmp_path, *pairs, "monitor={metric: train/loss, mode: min}")).module is not None


def test_a_metric_that_was_never_measured_is_reported(tmp_path: Path) -> None:
    config = small(tmp_path, "trainer.val_check_interval=3", "trainer.max_steps=2")
    with pytest.warns(InputWarning, match="the monitored metric was never measured, so the student has the weights of"):
        train(config)
    assert (config.directory / "student.safetensors").exists()
