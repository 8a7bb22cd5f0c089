"""Commands that are stopped: exit codes and messages, and how they go on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.helpers import QUIET, SMALL, TINY, Command


def test_sigterm_ends_a_command_as_ctrl_c_does(distill: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.cli.listing.run", lambda kind: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    result = distill("list", "models")
    assert result.code == 130
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_time_limit_ends_the_command_without_a_student(distill: Command, tmp_path: Path) -> None:
    command = ("train", TINY, *SMALL, *QUIET, f"output_dir={tmp_path}", "name=a")
    first = distill(*command, "trainer.max_time={seconds: 0}")
    expected = "a: not finished: trainer.max_time ended the run at step 1 of 2; run the same command again to go on."
    assert (first.code, first.message) == (0, expected)
    assert not (tmp_path / "a" / "student.safetensors").exists()
    second = distill(*command, "trainer.max_time={seconds: 0}")
    assert (second.code, second.message) == (0, f"a: resumed and trained; the student is in {tmp_path / 'a'}")


def test_an_ablation_records_a_run_that_the_time_limit_ended(distill: Command, tmp_path: Path) -> None:
    from distill.ablation.trial import train_once
    from distill.build import load_config
    from distill.errors import RunError

    config = load_config([TINY], [*SMALL, *QUIET, f"output_dir={tmp_path}", "trainer.max_time={seconds: 0}"])
    with pytest.raises(RunError, match=r"^not finished: trainer\.max_time ended the run, which resumes there\."):
        train_once(config, overwrite=False)


def test_a_run_is_continued_for_more_epochs(distill: Command, tmp_path: Path) -> None:
    command = ("train", TINY, *SMALL, *QUIET, f"output_dir={tmp_path}", "name=a")
    assert distill(*command).code == 0
    refused = distill(*command, "trainer.max_epochs=2")
    assert refused.code == 2
    assert "contains the same run with 1 epochs. Continue it up to 2 epochs with --extend" in refused.message
    result = distill(*command, "trainer.max_epochs=2", "--extend")
    assert result.code == 0
    assert result.message.startswith("a: extended from 1 to 2 epochs; the schedule `cosine` is computed for 2 epochs")
