"""A number that is none stops the run, says where it came from, and leaves the last good state."""

from __future__ import annotations

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
    spoil: Callable[[Tensor], Tensor],
    *,
    at: int,
    term: type = SoftTargets,
) -> str:
    """Spoil a term's value from a step on, and say how the run ended."""
    run = build(config)
    RunDirectory(config.directory).open(config, run.identity)
    forward = term.forward  # type: ignore[attr-defined]

    def spoilt(self: torch.nn.Module, inputs: TermInputs) -> Tensor:
        value = forward(self, inputs)
        return spoil(value) if run.module.global_step >= at else value

    with monkeypatch.context() as patch:
        patch.setattr(term, "forward", spoilt)
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
    return value + (value - value.detach()).abs().sqrt()  # adds 0; its slope there is infinite


SPOIL: dict[str, Callable[[Tensor], Tensor]] = {
    "nan": lambda value: value * float("nan"),
    "inf": lambda value: value + float("inf"),
    "zero over zero": lambda value: value * 0 / torch.zeros(()),
}


@pytest.mark.parametrize("how", SPOIL)
def test_the_term_and_its_first_bad_step_are_named(config: Config, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    last = RunDirectory(config.directory).last
    message = run_with(config, monkeypatch, SPOIL[how], at=5)
    assert message == (
        f"term 'soft_targets' at step 5 is not a finite number; the last good checkpoint is {last}. "
        "Lower optimizer.lr or the weight of the term, or set trainer.gradient_clip_val."
    )
    assert checkpoint(last)["global_step"] == 4
    assert finite(last)
    assert finite(RunDirectory(config.directory).best)
    assert not (config.directory / "student.safetensors").exists()


def test_terms_that_go_bad_together_are_named_together(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    often = config.model_copy(update={"trainer": {**config.trainer, "log_every_n_steps": 3}})
    message = run_with(often, monkeypatch, steep, at=4)
    assert message.startswith("term 'cross_entropy' and 'soft_targets' and 'explanation' at step 5 is not a finite")


def test_in_the_first_epoch_there_is_nothing_to_keep(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    message = run_with(config, monkeypatch, SPOIL["nan"], at=0)
    assert message.startswith("term 'soft_targets' at step 0 is not a finite number; no checkpoint was made before. ")
    assert not RunDirectory(config.directory).last.exists()


def test_nothing_is_saved_within_an_epoch_either(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    often = config.model_copy(update={"checkpoint": config.checkpoint.model_copy(update={"every_n_steps": 1})})
    run_with(often, monkeypatch, SPOIL["nan"], at=6)
    last = RunDirectory(config.directory).last
    assert checkpoint(last)["global_step"] == 6
    assert finite(last)


def test_a_bad_gradient_of_a_good_loss_does_not_replace_good_weights(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = run_with(config, monkeypatch, steep, at=7)
    assert message.startswith("weights after step 7 are not finite numbers; the last good checkpoint is ")
    last = RunDirectory(config.directory).last
    assert checkpoint(last)["global_step"] == 4
    assert finite(last)


@pytest.mark.parametrize(("every", "steps"), [(1, 1), (3, 2), (50, 4)])
def test_it_is_noticed_at_the_next_log_point(
    config: Config, monkeypatch: pytest.MonkeyPatch, every: int, steps: int
) -> None:
    often = config.model_copy(update={"trainer": {**config.trainer, "log_every_n_steps": every}})
    made: list[Tensor] = []

    def spoil(value: Tensor) -> Tensor:
        made.append(value)
        return value * float("nan")

    message = run_with(often, monkeypatch, spoil, at=4)
    assert message.startswith("term 'soft_targets' at step 4 is not a finite number; ")
    assert len(made) == steps


def test_the_run_goes_on_from_the_last_good_state(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    run_with(config, monkeypatch, SPOIL["nan"], at=5)
    run = build(config)
    assert RunDirectory(config.directory).open(config, run.identity) == "resume"
    fit(run.module, run.data, config)
    assert [row["step"] for row in rows(config)] == ["3", "3", "7", "7", "11", "11"]
    assert finite(RunDirectory(config.directory).last)
