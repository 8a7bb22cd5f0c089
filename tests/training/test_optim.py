"""Parameter groups for weight decay, and the learning rate in every step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from distill.config import OptimizerSection, ScheduleSection
from distill.models import create_model
from distill.training import DistillationModule, Optimisation
from distill.training.optim import parameter_groups
from distill.types import Batch
from tests.training.helpers import small, train

EPOCHS, STEPS = 10, 4


def rates(optimizer: dict[str, Any], schedule: dict[str, Any]) -> list[float]:
    """Return the learning rate of each step."""
    made, scheduler = Optimisation(OptimizerSection(**optimizer), ScheduleSection(**schedule)).make(
        nn.Linear(2, 2), steps_per_epoch=STEPS, total_steps=EPOCHS * STEPS
    )
    seen = []
    for _ in range(EPOCHS * STEPS):
        seen.append(made.param_groups[0]["lr"])
        made.step()
        scheduler.step()
    return seen


def test_constant() -> None:
    assert rates({"lr": 0.3}, {"name": "constant"}) == [0.3] * 40


def test_multi_step_decays_at_the_start_of_an_epoch() -> None:
    got = rates({"lr": 0.1}, {"name": "multi_step", "milestones": [6, 8], "gamma": 0.2})
    assert got == pytest.approx([0.1] * 24 + [0.02] * 8 + [0.004] * 8)


def test_cosine_ends_at_zero() -> None:
    got = rates({"lr": 0.1}, {"name": "cosine"})
    assert got == pytest.approx([0.05 * (1 + math.cos(math.pi * step / 40)) for step in range(40)])
    assert (got[0], got[20]) == pytest.approx((0.1, 0.05))
    assert got[39] == pytest.approx(0.000154133, rel=1e-5)


def test_one_cycle_rises_to_its_peak_and_falls_to_almost_zero() -> None:
    got = rates({"lr": 0.1}, {"name": "one_cycle"})
    peak, low, end = 0.3 * 41 - 1, 0.1 / 25, 0.1 / 25 / 1e4

    def by_hand(step: int) -> float:
        if step <= peak:
            return 0.1 + (low - 0.1) / 2 * (1 + math.cos(math.pi * step / peak))
        return end + (0.1 - end) / 2 * (1 + math.cos(math.pi * (step - peak) / (40 - peak)))

    assert got == pytest.approx([by_hand(step) for step in range(40)])
    assert (got[0], max(got)) == pytest.approx((0.004, 0.1), rel=2e-3)


@pytest.mark.parametrize("name", ["cosine", "one_cycle", "constant"])
def test_schedules_do_not_change_momentum_and_weight_decay(name: str) -> None:
    section = OptimizerSection(momentum=0.7, nesterov=True, weight_decay=0.25)
    made, scheduler = Optimisation(section, ScheduleSection(name=name)).make(  # type: ignore[arg-type]
        nn.Linear(2, 2), steps_per_epoch=STEPS, total_steps=EPOCHS * STEPS
    )
    for _ in range(EPOCHS * STEPS):
        made.step()
        scheduler.step()
        group = made.param_groups[0]
        assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.7, True, 0.25)


def test_decay_of_all_parameters() -> None:
    net = create_model("wrn_10_1", num_classes=10)
    (group,) = parameter_groups(net, 0.1, decay_norm_and_bias=True)
    assert group["weight_decay"] == 0.1
    assert sum(p.numel() for p in group["params"]) == 77_850  # type: ignore[attr-defined]


def test_no_decay_of_normalisation_and_biases() -> None:
    net = create_model("wrn_10_1", num_classes=10)
    decayed, not_decayed = parameter_groups(net, 0.1, decay_norm_and_bias=False)
    assert (decayed["weight_decay"], not_decayed["weight_decay"]) == (0.1, 0.0)
    names = {id(p): name for name, p in net.named_parameters()}
    got = {names[id(p)] for p in not_decayed["params"]}  # type: ignore[attr-defined]
    assert got == {name for name in names.values() if ".bn" in name or name.endswith("bias")}
    assert {names[id(p)] for p in decayed["params"]} == set(names.values()) - got  # type: ignore[attr-defined]


def test_frozen_parameters_are_left_out() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    assert [len(g["params"]) for g in parameter_groups(net, 0.1, decay_norm_and_bias=False)] == [1, 1]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        ({"max_epochs": 3}, [0.1] * 4 + [0.01] * 8),
        ({"max_epochs": 3, "max_steps": 6}, [0.1] * 4 + [0.01] * 2),
        ({"max_epochs": 2, "limit_train_batches": 2}, [0.1] * 2 + [0.01] * 2),
        ({"max_epochs": 2, "accumulate_grad_batches": 2}, [0.1] * 4 + [0.01] * 4),
    ],
)
def test_schedules_are_in_epochs_for_any_trainer_limit(
    tmp_path: Path, trainer: dict[str, int], expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [f"trainer.{key}={value}" for key, value in trainer.items()]
    config = small(tmp_path, "schedule={name: multi_step, milestones: [1]}", *pairs)
    seen: list[float] = []
    step = DistillationModule.training_step

    def watched(self: DistillationModule, batch: Batch, batch_idx: int) -> Tensor:
        seen.append(self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        return step(self, batch, batch_idx)

    monkeypatch.setattr(DistillationModule, "training_step", watched)
    train(config)
    assert seen == pytest.approx(expected)
