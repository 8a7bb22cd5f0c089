"""A step that is not finite is kept in a file, and is repeated from it with the same figures."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.build import build
from distill.cli.train import repeat_failed_step
from distill.config import Config
from distill.errors import InputError, RunError
from distill.losses import SoftTargets
from distill.losses.term import TermInputs
from distill.models.damage import add_checksum
from distill.teachers.frozen import FrozenTeacher
from distill.training import RunDirectory, failed_step, fit
from distill.training.replay import Replay
from distill.types import StagedOutput
from distill.workflows.replay import replay
from tests.training.helpers import KD, checkpoint, save_teacher, small, train

#: Parts of a recipe that have a state: momentum, a schedule with warm-up, an average, accumulation, random colours.
RECIPE = (
    "optimizer={name: adamw, lr: 0.01, lr_factors: {fc: 2}}",
    "schedule={name: cosine, warmup_epochs: 1}",
    "ema={decay: 0.9}",
    "trainer.accumulate_grad_batches=2",
    "data.augment.colour_jitter={brightness: 0.3}",
    "checkpoint.every_n_steps=1",
)


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    return f"teacher.checkpoint={save_teacher(tmp_path / 'teacher')}"


def spoil(patch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor], *, labels: Tensor) -> None:
    """Change the term of the soft targets for the batch with these labels, in every run."""
    forward = SoftTargets.forward

    def changed(self: SoftTargets, inputs: TermInputs) -> Tensor:
        value = forward(self, inputs)
        return change(value) if torch.equal(inputs.labels, labels) else value

    patch.setattr(SoftTargets, "forward", changed)


def labels_of(config: Config, number: int) -> Tensor:
    """Return the labels of a batch, counted over epochs."""
    run = build(config)
    loader: Any = run.data.train_dataloader()
    loader.sampler.set_epoch(number // len(loader))
    return list(loader)[number % len(loader)].labels


def fail(config: Config) -> str:
    with pytest.raises(RunError) as caught:
        train(config)
    assert caught.value.exit_code == 1
    return str(caught.value)


def repeated(config: Config) -> Replay:
    torch.manual_seed(99)
    found = replay(config.directory / "failed_step.ckpt")
    assert found.repeated is not None
    assert found.recorded is not None
    assert found.repeated.equals(found.recorded)
    return found


CHANGES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "nan": (lambda value: value * float("nan"), "term 'soft_targets'"),
    "gradient": (lambda value: value + (value - value.detach()).abs().sqrt(), "the gradient of term 'soft_targets'"),
}


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("recipe", [(), RECIPE], ids=["plain", "recipe"])
def test_a_planted_fault_is_found_and_repeated_to_the_bit(
    tmp_path: Path, teacher: str, monkeypatch: pytest.MonkeyPatch, how: str, recipe: tuple[str, ...]
) -> None:
    config = small(tmp_path, *KD, teacher, *recipe)
    change, cause = CHANGES[how]
    spoil(monkeypatch, change, labels=labels_of(config, 7))
    step = 3 if recipe else 7
    message = fail(config)
    assert f"are those of {cause} at step {step}. `distill train --replay {config.directory}" in message
    found = repeated(config).repeated
    assert found is not None
    assert (found.step, found.cause, found.module) == (step, cause, "")
    assert set(found.terms) == {"cross_entropy", "soft_targets", "explanation"}
    assert math.isfinite(found.terms["cross_entropy"].gradient_norm)
    assert not math.isfinite(found.terms["soft_targets"].gradient_norm)
    assert not math.isfinite(found.gradient_norm)


def test_figures_are_those_of_the_step_itself(tmp_path: Path, teacher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The terms of the repeated step are those that an undisturbed run computes there."""
    config = small(tmp_path / "clean", *KD, teacher, *RECIPE[:3])
    seen: list[dict[str, float]] = []
    forward = type(build(config).module.objective).forward

    def look(self: Any, *arguments: Any, **more: Any) -> Any:
        losses = forward(self, *arguments, **more)
        seen.append({name: value.item() for name, value in losses.raw.items()})
        return losses

    with monkeypatch.context() as patch:
        patch.setattr("distill.losses.Objective.forward", look)
        train(config)
    broken = small(tmp_path / "broken", *KD, teacher, *RECIPE[:3])
    spoil(monkeypatch, CHANGES["gradient"][0], labels=labels_of(broken, 6))
    fail(broken)
    found = repeated(broken).repeated
    assert found is not None
    steps = [values for values in seen[1:] if values]  # the first one is the check before the run
    assert {name: figures.value for name, figures in found.terms.items()} in steps


def test_an_exploding_learning_rate_names_the_module_or_the_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small(tmp_path, "optimizer.lr=1e30")
    message = fail(config)
    assert "term 'cross_entropy' at step 1; the first module whose output is not finite is student.block1." in message
    found = repeated(config).repeated
    assert found is not None
    assert found.module.startswith("student.block1.")
    capsys.readouterr()
    repeat_failed_step(str(config.directory / "failed_step.ckpt"), trust=False)
    assert capsys.readouterr().out == f"{found.text}\nAll figures are equal to those of the run.\n"
    assert "first module whose output is not finite: student.block1." in found.text


def test_mixed_images_are_kept_and_repeated(tmp_path: Path, teacher: str) -> None:
    config = small(tmp_path, *KD, teacher, "data.mixup={alpha: 0.4}", "optimizer.lr=1e30")
    fail(config)
    repeated(config)
    (batch,) = failed_step.stored_batches(checkpoint(config.directory / "failed_step.ckpt"))
    assert batch.mix is not None
    assert 0.5 <= float(batch.mix.share) <= 1


def test_the_teacher_is_named_too_and_is_not_in_the_file(
    tmp_path: Path, teacher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(tmp_path, *KD, teacher)
    run = build(config)
    RunDirectory(config.directory).open(config, run.identity)
    assert run.module.teacher is not None
    call, count = FrozenTeacher.__call__, [0]

    def broken(self: FrozenTeacher, *arguments: Any) -> StagedOutput:
        count[0] += 1
        if count[0] == 3:
            self.network.network.fc.bias.data[0] = float("inf")  # type: ignore[union-attr,operator]
        return call(self, *arguments)

    monkeypatch.setattr(FrozenTeacher, "__call__", broken)
    with pytest.raises(RunError, match=r"the first module whose output is not finite is teacher\.fc"):
        fit(run.module, run.data, config)
    content = checkpoint(config.directory / "failed_step.ckpt")
    assert not any("teacher" in key for key in (*content, *content["state_dict"]))


def test_large_batches_are_read_from_the_data_again(
    tmp_path: Path, teacher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_step, "MAX_BATCH_BYTES", 10)
    config = small(tmp_path, *KD, teacher)
    spoil(monkeypatch, CHANGES["nan"][0], labels=labels_of(config, 5))
    fail(config)
    assert checkpoint(config.directory / "failed_step.ckpt")["failed_step"]["batches"] == []
    repeated(config)


def test_steps_that_are_finite_when_they_are_repeated(
    tmp_path: Path, teacher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(tmp_path, *KD, teacher)
    run = build(config)
    RunDirectory(config.directory).open(config, run.identity)
    forward, once = SoftTargets.forward, [True]

    def changed(self: SoftTargets, inputs: TermInputs) -> Tensor:
        value = forward(self, inputs)
        if run.module.global_step == 6 and once:
            once.clear()
            return value * float("nan")
        return value

    monkeypatch.setattr(SoftTargets, "forward", changed)
    with pytest.raises(RunError, match=r"repeats the steps from step 4 on. They were finite when they were repeated"):
        fit(run.module, run.data, config)
    found = replay(config.directory / "failed_step.ckpt")
    assert found == (None, None)


def test_a_full_disk_does_not_hide_the_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("distill.training.replay._write", full)
    message = fail(small(tmp_path, "optimizer.lr=1e30"))
    assert message.startswith("term 'cross_entropy' at step 1 is not a finite number; ")
    assert "The step was not kept: [Errno 28] No space left on device" in message


def test_other_files_are_refused(tmp_path: Path, teacher: str) -> None:
    config = small(tmp_path, teacher, *KD)
    train(config)
    last = RunDirectory(config.directory).last
    with pytest.raises(InputError, match=r"^no file .*none.ckpt. A run whose loss is not finite"):
        replay(config.directory / "none.ckpt")
    with pytest.raises(InputError, match=r"has no config\.yaml; the file must be in the directory of its run"):
        replay(last)
    with pytest.raises(InputError, match=r"^no file .*failed_step.ckpt"):
        replay(config.directory)
    with pytest.raises(
        InputError, match=r"config.yaml is not the file of a failed step, which a run writes as failed_s"
    ):
        replay(config.directory / "config.yaml")
    for name, content in (("copy.ckpt", checkpoint(last)), ("damaged.ckpt", {**add_checksum({"a": 1}), "a": 2})):
        torch.save(content, config.directory / name)
        with pytest.raises(InputError, match=r"is not the file of a failed step|cannot be read|was changed"):
            replay(config.directory / name)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path("executed"), "")


def test_code_in_the_file_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = small(tmp_path)
    train(config)
    torch.save({"failed_step": Evil()}, config.directory / "failed_step.ckpt")
    with pytest.raises(InputError, match="cannot be read"):
        replay(config.directory / "failed_step.ckpt")
    assert not (tmp_path / "executed").exists()


def test_names_in_the_configuration_of_the_run_are_imported_only_if_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = "tests.training.test_extensions:Counter"
    config = small(tmp_path, f"callbacks=['{entry}']", "optimizer.lr=1e30")
    fail(config)
    path = config.directory / "failed_step.ckpt"
    with pytest.raises(InputError, match=f"asks to import '{entry}', which executes code"):
        replay(path)
    assert replay(path, trust=True).repeated is not None
