"""Moving average of the weights: against a loop in float64, validated, saved, and resumed bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.build import load_images
from distill.config import EMASection
from distill.errors import InputError
from distill.models import load_model
from distill.training.ema import EMA
from tests.training.helpers import CrashError, checkpoint, crash_at, rows, small, train


def test_the_average_is_that_of_a_loop_in_float64() -> None:
    torch.manual_seed(0)
    ema = EMA(EMASection(decay=0.9))
    ema.average = {"w": torch.zeros(3), "n": torch.tensor(0)}
    expected = torch.zeros(3, dtype=torch.float64)
    for step in range(20):
        w = torch.randn(3)
        ema.update({"w": w, "n": torch.tensor(step)})
        expected = 0.9 * expected + 0.1 * w.double()
    torch.testing.assert_close(ema.average["w"], expected.float())
    assert ema.average["n"] == 19


def test_the_average_is_validated_and_becomes_the_student(tmp_path: Path) -> None:
    config = small(tmp_path, "ema.decay=0.8", "name=ema", "monitor.select=last")
    train(config)
    last = checkpoint(config.directory / "checkpoints" / "last.ckpt")
    saved = load_model(config.directory).state_dict()
    for name, value in saved.items():
        assert torch.equal(value, last["ema_state_dict"][f"student.{name}"])
    assert any(not torch.equal(last["state_dict"][f"student.{name}"], value) for name, value in saved.items())
    net, images = load_model(config.directory), load_images(config.data, "validation")
    with torch.no_grad():
        right = (net(images.images.float() / 255).argmax(1) == images.labels).float().mean()
    logged = [row["validation/accuracy"] for row in rows(config) if row["validation/accuracy"]]
    assert float(logged[-1]) == pytest.approx(float(right), abs=1e-6)


def test_the_weights_in_training_are_those_of_a_run_without_an_average(tmp_path: Path) -> None:
    states: list[dict[str, Tensor]] = []
    for name, pairs in (("plain", []), ("average", ["ema.decay=0.8"])):
        config = small(tmp_path, f"name={name}", *pairs)
        train(config)
        states.append(checkpoint(config.directory / "checkpoints" / "last.ckpt")["state_dict"])
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("step", [5, 8])
def test_a_run_with_an_average_resumes_bit_for_bit(tmp_path: Path, step: int) -> None:
    pairs = ["ema={decay: 0.8, every_n_steps: 2}", "checkpoint.every_n_steps=1"]
    whole, cut = small(tmp_path, *pairs, "name=whole"), small(tmp_path, *pairs, "name=cut")
    train(whole)
    with pytest.raises(CrashError):
        train(cut, before_step=crash_at(step))
    train(cut)
    for file in ("best.ckpt", "last.ckpt"):
        a, b = (checkpoint(c.directory / "checkpoints" / file)["ema_state_dict"] for c in (whole, cut))
        assert all(torch.equal(value, b[name]) for name, value in a.items())
    a, b = load_model(whole.directory).state_dict(), load_model(cut.directory).state_dict()
    assert all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_only_optimizer_steps_are_averaged(tmp_path: Path, accumulate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    update = EMA.update

    def counted(self: EMA, weights: dict[str, Tensor], **options: Any) -> None:
        nonlocal calls
        calls += 1
        update(self, weights, **options)

    monkeypatch.setattr(EMA, "update", counted)
    train(small(tmp_path, "ema.decay=0.8", f"trainer.accumulate_grad_batches={accumulate}"))
    assert calls == 12 / accumulate


@pytest.mark.parametrize("decay", ["0", "1", "1.5", "-0.1"])
def test_a_decay_out_of_range_is_refused(tmp_path: Path, decay: str) -> None:
    with pytest.raises(InputError, match=r"ema\.decay: input should be (greater|less) than"):
        small(tmp_path, f"ema.decay={decay}")
