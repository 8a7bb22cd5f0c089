"""A run goes on for more epochs than it was started with, and is then the run of that length."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from distill.checksums import save_checked
from distill.config import Config, load
from distill.errors import InputError
from distill.files import write_text
from distill.training import RunDirectory
from distill.workflows.train import train_config
from tests.training.helpers import CrashError, checkpoint, crash_at, rows, small
from tests.training.helpers import train as train_with

SCHEDULES = ("constant", "cosine", "one_cycle")


def config(folder: Path, epochs: int, schedule: str = "constant") -> Config:
    pairs = ("data.count={train: 32, validation: 16}", "optimizer.lr=0.05", f"schedule={{name: {schedule}}}")
    return small(folder, *pairs, f"trainer.max_epochs={epochs}")


def weights(config: Config) -> bytes:
    return RunDirectory(config.directory).weights.read_bytes()


def rate(config: Config) -> tuple[Any, list[float]]:
    """The state of the schedule and the learning rates at the end of a run."""
    state = checkpoint(RunDirectory(config.directory).last)
    return state["lr_schedulers"], [group["lr"] for group in state["optimizer_states"][0]["param_groups"]]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_finished_run_is_continued(tmp_path: Path, schedule: str) -> None:
    straight = config(tmp_path / "straight", 3, schedule)
    train_config(straight)
    train_config(config(tmp_path, 1, schedule))
    longer = config(tmp_path, 3, schedule)
    messages: list[str] = []
    run = train_config(longer, extend=True, notify=messages.append)
    assert (run.action, run.finished) == ("resume", True)
    assert [message.partition(";")[0] for message in messages] == ["run: extended from 1 to 3 epochs"]
    assert ("is computed for 3 epochs" in messages[0]) == (schedule != "constant")
    assert [row["step"] for row in rows(longer)] == [row["step"] for row in rows(straight)]
    assert rate(longer) == rate(straight)
    if schedule == "constant":  # the first epoch of the others had another learning rate
        assert weights(longer) == weights(straight)
    assert load([longer.directory / "config.yaml"]) == longer
    assert train_config(longer).action == "done"
    assert train_config(longer, extend=True).action == "done"


def test_a_cut_run_is_continued(tmp_path: Path) -> None:
    straight = config(tmp_path / "straight", 4)
    train_config(straight)
    with pytest.raises(CrashError):
        train_with(config(tmp_path, 2), before_step=crash_at(3))
    longer = config(tmp_path, 4)
    assert train_config(longer, extend=True).action == "resume"
    assert weights(longer) == weights(straight)


def test_without_extend_the_error_names_it_and_nothing_changes(tmp_path: Path) -> None:
    train_config(config(tmp_path, 1))
    directory = RunDirectory(tmp_path / "run")
    before = {path: path.read_bytes() for path in directory.path.rglob("*") if path.is_file()}
    message = (
        r"contains the same run with 1 epochs\. Continue it up to 2 epochs with --extend \(in Python: `extend=True`"
    )
    with pytest.raises(InputError, match=message):
        train_config(config(tmp_path, 2))
    assert before == {path: path.read_bytes() for path in directory.path.rglob("*") if path.is_file()}


def test_runs_that_cannot_be_extended(tmp_path: Path) -> None:
    train_config(config(tmp_path, 2))
    with pytest.raises(InputError, match=r"contains the same run with 2 epochs, which is more\."):
        train_config(config(tmp_path, 1), extend=True)
    with pytest.raises(InputError, match="contains a run with another configuration"):
        train_config(config(tmp_path, 3).model_copy(update={"seed": 1}), extend=True)
    for path in RunDirectory(tmp_path / "run").checkpoints:
        path.unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"has no checkpoint to continue from\."):
        train_config(config(tmp_path, 3), extend=True)
    assert RunDirectory(tmp_path / "run").weights.exists()


@pytest.mark.parametrize("survives", ["environment.json", "config.yaml"])
def test_a_run_killed_while_it_is_extended_is_continued_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survives: str
) -> None:
    straight = config(tmp_path / "straight", 2, "cosine")
    train_config(straight)
    train_config(config(tmp_path, 1, "cosine"))

    def cut(path: Path, text: str) -> Path:
        if path.name == survives:
            raise CrashError
        return write_text(path, text)

    def cut_record(record: Mapping[str, Any], path: Path) -> Path:
        if path.name == survives:
            raise CrashError
        return save_checked(record, path)

    longer = config(tmp_path, 2, "cosine")
    with monkeypatch.context() as patched:
        patched.setattr("distill.training.run_directory.write_text", cut)
        patched.setattr("distill.training.run_directory.save_checked", cut_record)
        with pytest.raises(CrashError):
            train_config(longer, extend=True)
    assert train_config(longer, extend=True).action == "resume"
    assert rate(longer) == rate(straight)
    assert load([longer.directory / "config.yaml"]) == longer
    environment = json.loads((longer.directory / "environment.json").read_text())
    assert environment["extended_from"] == 1
