"""A run that was stopped and resumed ends bit for bit like an uninterrupted run."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.config import Config
from distill.training import DistillationModule, InterruptError, RunDirectory
from tests.fuzz.mutations import damage
from tests.training.helpers import KD, CrashError, checkpoint, crash_at, rows, save_teacher, small, train

SAVED = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "random_state", "callbacks")
OPTIONS = (*KD, "student.dropout=0.3", "optimizer.lr=0.05")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> Config:
    config = small(tmp_path_factory.mktemp("straight"), *OPTIONS, f"teacher.checkpoint={teacher}")
    train(config)
    return config


def assert_same(got: Any, expected: Any, where: str = "") -> None:
    """Assert that nested states are equal bit for bit."""
    assert type(got) is type(expected), where
    if isinstance(expected, torch.Tensor):
        assert torch.equal(got, expected), where
    elif isinstance(expected, dict):
        assert list(got) == list(expected), where
        for key in expected:
            assert_same(got[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(got) == len(expected), where
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            assert_same(a, b, f"{where}.{i}")
    else:
        assert got == expected, where


def assert_same_end(config: Config, straight: Config) -> None:
    resumed, reference = RunDirectory(config.directory), RunDirectory(straight.directory)
    for name in ("last", "best"):
        got, expected = checkpoint(getattr(resumed, name)), checkpoint(getattr(reference, name))
        assert_same({k: got[k] for k in SAVED[:-1]}, {k: expected[k] for k in SAVED[:-1]}, name)
    weights = "student.safetensors"
    assert (resumed.path / weights).read_bytes() == (reference.path / weights).read_bytes()
    assert resumed.metrics.read_text() == reference.metrics.read_text()


def test_the_straight_run_is_complete(straight: Config) -> None:
    assert [(row["epoch"], row["step"]) for row in rows(straight)] == [
        (str(epoch), str(4 * epoch + 3)) for epoch in range(3) for _ in ("validation", "train")
    ]
    state = checkpoint(RunDirectory(straight.directory).last)
    assert (state["global_step"], set(SAVED) - set(state)) == (12, set())


@pytest.mark.parametrize("crash", [4, 5, 8, 11])
def test_resume_from_the_end_of_an_epoch(tmp_path: Path, teacher: Path, straight: Config, crash: int) -> None:
    config = small(tmp_path, *OPTIONS, f"teacher.checkpoint={teacher}")
    with pytest.raises(CrashError):
        train(config, before_step=crash_at(crash))
    assert checkpoint(RunDirectory(config.directory).last)["global_step"] == crash // 4 * 4
    train(config)
    assert_same_end(config, straight)


@pytest.mark.parametrize(("every", "crash"), [(1, 1), (1, 3), (1, 6), (3, 7), (2, 11), (4, 8), (1, 4)])
def test_resume_from_the_middle_of_an_epoch(
    tmp_path: Path, teacher: Path, straight: Config, every: int, crash: int
) -> None:
    config = small(tmp_path, *OPTIONS, f"teacher.checkpoint={teacher}", f"checkpoint.every_n_steps={every}")
    with pytest.raises(CrashError):
        train(config, before_step=crash_at(crash))
    assert checkpoint(RunDirectory(config.directory).last)["global_step"] == max(crash // every * every, crash // 4 * 4)
    train(config)
    assert_same_end(config, straight)


def test_resume_after_a_crash_in_validation(
    tmp_path: Path, teacher: Path, straight: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(tmp_path, *OPTIONS, f"teacher.checkpoint={teacher}", "checkpoint.every_n_steps=2")

    def crash(module: DistillationModule) -> None:
        if module.global_step == 8:
            raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(DistillationModule, "on_validation_start", crash)
        with pytest.raises(CrashError):
            train(config)
    assert checkpoint(RunDirectory(config.directory).last)["global_step"] == 6
    train(config)
    assert_same_end(config, straight)


def interrupt_at(*numbers: int) -> Callable[[int], None]:
    def interrupt(step: int) -> None:
        if step in numbers:
            os.kill(os.getpid(), signal.SIGINT)

    return interrupt


@pytest.mark.parametrize("step", [0, 3, 6])
def test_resume_after_an_interrupt(tmp_path: Path, teacher: Path, straight: Config, step: int) -> None:
    config = small(tmp_path, *OPTIONS, f"teacher.checkpoint={teacher}")
    with pytest.raises(InterruptError, match=rf"^stopped at step {step + 1}; run the same command again to resume\.$"):
        train(config, before_step=interrupt_at(step))
    assert checkpoint(RunDirectory(config.directory).last)["global_step"] == step + 1
    train(config)
    assert_same_end(config, straight)


def test_an_interrupt_in_the_last_step_has_no_effect(tmp_path: Path, teacher: Path, straight: Config) -> None:
    config = small(tmp_path, *OPTIONS, f"teacher.checkpoint={teacher}")
    train(config, before_step=interrupt_at(11))
    assert_same_end(config, straight)


def test_resume_after_many_interrupts(tmp_path: Path, teacher: Path, straight: Config) -> None:
    config = small(tmp_path, *OPTIONS, f"teacher.checkpoint={teacher}")
    for step in (1, 2, 3, 5, 9):
        with pytest.raises(InterruptError):
            train(config, before_step=interrupt_at(step))
    train(config)
    assert_same_end(config, straight)


def test_resume_on_a_machine_with_fewer_devices(
    tmp_path: Path, teacher: Path, straight: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(tmp_path, *OPTIONS, f"teacher.checkpoint={teacher}")
    with pytest.raises(InterruptError):
        train(config, before_step=interrupt_at(5))
    last = RunDirectory(config.directory).last
    content = checkpoint(last)
    content["random_state"]["cuda"] = [torch.zeros(16, dtype=torch.uint8)]
    torch.save(content, last)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    train(config)
    assert_same_end(config, straight)


@pytest.mark.parametrize("every", ["", "checkpoint.every_n_steps=1"])
@pytest.mark.parametrize(
    "kind", ["truncated", "bits flipped", "not UTF-8", "another kind", "deleted", "a link to nothing"]
)
def test_damaged_metrics_of_an_unfinished_run_are_rebuilt(
    tmp_path: Path, teacher: Path, straight: Config, kind: str, every: str
) -> None:
    config = small(tmp_path, *OPTIONS, f"teacher.checkpoint={teacher}", *([every] if every else []))
    with pytest.raises(CrashError):
        train(config, before_step=crash_at(9))
    directory = RunDirectory(config.directory)
    whole = directory.metrics.read_bytes()
    assert checkpoint(directory.last)["metrics_csv"].encode() == whole  # with the row logged after the checkpoint
    damage(directory.metrics, kind, random.Random(0))
    messages: list[str] = []
    train(config, notify=messages.append)
    rebuilt = "metrics.csv is missing, incomplete or damaged; it is rebuilt from last.ckpt."
    assert messages == [f"{directory.path}/{rebuilt}"]
    assert_same_end(config, straight)


def test_metrics_that_end_before_the_last_epoch_of_the_checkpoint_are_completed(
    tmp_path: Path, teacher: Path, straight: Config
) -> None:
    """As after a kill between the checkpoint of an epoch and its row."""
    config = small(tmp_path, *OPTIONS, f"teacher.checkpoint={teacher}")
    with pytest.raises(CrashError):
        train(config, before_step=crash_at(8))
    directory = RunDirectory(config.directory)
    directory.metrics.write_bytes(b"".join(directory.metrics.read_bytes().splitlines(keepends=True)[:-1]))
    train(config)
    assert_same_end(config, straight)


def test_a_checkpoint_of_an_older_version_has_no_metrics(tmp_path: Path, teacher: Path, straight: Config) -> None:
    config = small(tmp_path, *OPTIONS, f"teacher.checkpoint={teacher}")
    with pytest.raises(CrashError):
        train(config, before_step=crash_at(8))
    last = RunDirectory(config.directory).last
    content = checkpoint(last)
    del content["metrics_csv"], content["content_sha256"]
    torch.save(content, last)
    train(config)
    assert_same_end(config, straight)


def test_resume_with_balanced_classes_and_a_cache(tmp_path: Path, teacher: Path) -> None:
    options = (*OPTIONS, f"teacher.checkpoint={teacher}", "data.sampler=balanced", "data.class_weights=balanced")
    straight = small(tmp_path / "straight", *options)
    train(straight)
    config = small(tmp_path / "resumed", *options, "teacher.cache=memory")
    for step in (2, 5):
        with pytest.raises(InterruptError):
            train(config, before_step=interrupt_at(step))
    train(config)
    weights = "student.safetensors"
    assert (config.directory / weights).read_bytes() == (straight.directory / weights).read_bytes()


@pytest.mark.parametrize("step", [5, 9])
def test_a_recipe_with_average_warm_up_and_early_stopping_resumes_bit_for_bit(tmp_path: Path, step: int) -> None:
    """The second validation without an improvement ends the run, also if it was stopped between the two."""
    recipe = (
        "optimizer={name: adamw, lr: 0.003, weight_decay: 0.05, layer_decay: 0.8, decay_norm_and_bias: false}",
        "schedule={name: cosine, warmup_epochs: 1.5}",
        "ema={decay: 0.8}",
        "early_stopping={patience: 2, min_delta: 1}",
        "trainer.max_epochs=9",
        "checkpoint.every_n_steps=1",
    )
    whole, cut = (small(tmp_path / name, *recipe) for name in ("whole", "cut"))
    train(whole)
    with pytest.raises(CrashError):
        train(cut, before_step=crash_at(step))
    train(cut)
    assert_same_end(cut, whole)
    last = [checkpoint(RunDirectory(config.directory).last) for config in (cut, whole)]
    assert_same(last[0]["ema_state_dict"], last[1]["ema_state_dict"])
    assert last[0]["global_step"] == 12
