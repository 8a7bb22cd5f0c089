"""A non-finite loss stops the run, names the term and the step, and keeps the last finite checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distill.build import build
from distill.config import Config
from distill.errors import RunError
from distill.losses import SoftTargets
from distill.losses.term import TermInputs
from distill.training import RunDirectory, fit
from tests.training.helpers import KD, checkpoint, rows, save_teacher, small


def run_with(
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    replace: Callable[[Tensor], Tensor],
    *,
    at: int,
    term: type = SoftTargets,
) -> str:
    """Replace a term's value from step `at` on, and return the message that ended the run."""
    run = build(config)
    RunDirectory(config.directory).open(config, run.identity)
    forward = term.forward  # type: ignore[attr-defined]

    def replaced(self: torch.nn.Module, inputs: TermInputs) -> Tensor:
        value = forward(self, inputs)
        return replace(value) if run.module.global_step >= at else value

    with monkeypatch.context() as patch:
        patch.setattr(term, "forward", replaced)
        with pytest.raises(RunError) as caught:
            fit(run.module, run.data, config)
    assert caught.value.exit_code == 1
    return str(caught.value)


def finite(path: Path) -> bool:
    state = checkpoint(path)["state_dict"]
    return all(bool(tensor.isfinite().all()) for tensor in state.values())


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return small(tmp_path, *KD, f"teacher.checkpoint={save_teacher(tmp_path / 'teacher')}", "optimizer.lr=0.01")


def steep(value: Tensor) -> Tensor:
    return value + (value - value.detach()).abs().sqrt()  # adds 0 with an infinite gradient


FAULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "nan": lambda value: value * float("nan"),
    "inf": lambda value: value + float("inf"),
    "zero over zero": lambda value: value * 0 / torch.zeros(()),
}


@pytest.mark.parametrize("how", FAULTS)
def test_the_term_and_its_first_non_finite_step_are_named(
    config: Config, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    last = RunDirectory(config.directory).last
    message = run_with(config, monkeypatch, FAULTS[how], at=5)
    assert message == (
        f"term 'soft_targets' at step 5 is not a finite number; the last good checkpoint is {last}. "
        "Lower optimizer.lr or the weight of the term, or set trainer.gradient_clip_val. The first values that are not "
        "finite are those of term 'soft_targets' at step 5. `distill train --replay "
        f"{config.directory / 'failed_step.ckpt'}` repeats that step, and prints its terms and gradients."
    )
    assert checkpoint(last)["global_step"] == 4
    assert finite(last)
    assert finite(RunDirectory(config.directory).best)
    assert not (config.directory / "student.safetensors").exists()


def test_terms_with_the_same_first_step_are_named_together(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    often = config.model_copy(update={"trainer": {**config.trainer, "log_every_n_steps": 3}})
    message = run_with(often, monkeypatch, steep, at=4)
    assert message.startswith("term 'cross_entropy' and 'soft_targets' and 'explanation' at step 5 is not a finite")
    assert "The first values that are not finite are those of the gradient of term 'soft_targets' at step 4" in message


def test_no_checkpoint_exists_in_the_first_epoch(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    message = run_with(config, monkeypatch, FAULTS["nan"], at=0)
    assert message.startswith(
        "term 'soft_targets' at step 0 is not a finite number; no checkpoint was saved before it. "
    )
    assert not RunDirectory(config.directory).last.exists()


def test_step_checkpoints_are_not_saved_either(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    often = config.model_copy(update={"checkpoint": config.checkpoint.model_copy(update={"every_n_steps": 1})})
    run_with(often, monkeypatch, FAULTS["nan"], at=6)
    last = RunDirectory(config.directory).last
    assert checkpoint(last)["global_step"] == 6
    assert finite(last)


def test_a_non_finite_gradient_of_a_finite_loss_does_not_replace_the_checkpoint(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = run_with(config, monkeypatch, steep, at=7)
    assert message.startswith("weights after step 7 are not finite numbers; the last good checkpoint is ")
    last = RunDirectory(config.directory).last
    assert checkpoint(last)["global_step"] == 4
    assert finite(last)


@pytest.mark.parametrize(("every", "steps"), [(1, 1), (3, 2), (50, 4)])
def test_it_is_detected_at_the_next_log_point(
    config: Config, monkeypatch: pytest.MonkeyPatch, every: int, steps: int
) -> None:
    often = config.model_copy(update={"trainer": {**config.trainer, "log_every_n_steps": every}})
    values: list[Tensor] = []
    monkeypatch.setattr(sys.modules["distill.training.fit"], "keep_failed_step", lambda *arguments, **more: "")

    def replace(value: Tensor) -> Tensor:
        values.append(value)
        return value * float("nan")

    message = run_with(often, monkeypatch, replace, at=4)
    assert message.startswith("term 'soft_targets' at step 4 is not a finite number; ")
    assert len(values) == steps


def test_the_run_resumes_from_the_last_finite_checkpoint(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    run_with(config, monkeypatch, FAULTS["nan"], at=5)
    run = build(config)
    assert RunDirectory(config.directory).open(config, run.identity) == "resume"
    fit(run.module, run.data, config)
    assert [row["step"] for row in rows(config)] == ["3", "3", "7", "7", "11", "11"]
    assert finite(RunDirectory(config.directory).last)
