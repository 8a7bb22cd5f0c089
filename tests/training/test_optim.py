"""Parameter groups for weight decay, and the learning rate in every step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from distill.config import OptimizerSection, ScheduleSection
from distill.errors import InputError
from distill.models import create_model
from distill.training import DistillationModule, Optimisation
from distill.training.optim import lr_factors, optimizer_classes, parameter_groups
from distill.types import Batch
from tests.training.helpers import checkpoint, rows, small, train

EPOCHS, STEPS = 10, 4


def rates(optimizer: dict[str, Any], schedule: dict[str, Any]) -> list[float]:
    """Return the learning rate of each step."""
    recipe = Optimisation(OptimizerSection(**optimizer), ScheduleSection(**schedule))
    made, (scheduler, interval) = recipe.make(nn.Linear(2, 2), steps_per_epoch=STEPS, total_steps=EPOCHS * STEPS)
    assert isinstance(scheduler, LRScheduler)
    seen = []
    for step in range(EPOCHS * STEPS):
        with recipe.warm_up(made, step=step, steps_per_epoch=STEPS):
            seen.append(made.param_groups[0]["lr"])
            made.step()
        if interval == "step" or step % STEPS == STEPS - 1:
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
    made, (scheduler, _) = Optimisation(section, ScheduleSection(name=name)).make(
        nn.Linear(2, 2), steps_per_epoch=STEPS, total_steps=EPOCHS * STEPS
    )
    assert isinstance(scheduler, LRScheduler)
    for _ in range(EPOCHS * STEPS):
        made.step()
        scheduler.step()
        group = made.param_groups[0]
        assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.7, True, 0.25)


def groups_of(net: nn.Module, *, decay_norm_and_bias: bool) -> list[dict[str, Any]]:
    named = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    return parameter_groups(named, lr=0.5, factors={}, weight_decay=0.1, decay_norm_and_bias=decay_norm_and_bias)


def test_decay_of_all_parameters() -> None:
    (group,) = groups_of(create_model("wrn_10_1", num_classes=10), decay_norm_and_bias=True)
    assert (group["weight_decay"], group["lr"]) == (0.1, 0.5)
    assert sum(p.numel() for p in group["params"]) == 77_850


def test_no_decay_of_normalisation_and_biases() -> None:
    net = create_model("wrn_10_1", num_classes=10)
    decayed, not_decayed = groups_of(net, decay_norm_and_bias=False)
    assert (decayed["weight_decay"], not_decayed["weight_decay"]) == (0.1, 0.0)
    names = {id(p): name for name, p in net.named_parameters()}
    got = {names[id(p)] for p in not_decayed["params"]}
    assert got == {name for name in names.values() if ".bn" in name or name.endswith("bias")}
    assert {names[id(p)] for p in decayed["params"]} == set(names.values()) - got


def test_frozen_parameters_are_left_out() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    assert [len(g["params"]) for g in groups_of(net, decay_norm_and_bias=False)] == [1, 1]


@pytest.mark.parametrize("name", sorted(optimizer_classes()))
def test_every_optimizer_of_torch_makes_a_step_and_has_its_own_defaults(name: str) -> None:
    net = nn.Linear(3, 2)
    made, _ = Optimisation(OptimizerSection(name=name), ScheduleSection()).make(net, steps_per_epoch=1, total_steps=9)
    net(torch.ones(1, 3)).sum().backward()
    before = net.weight.detach().clone()
    made.step()
    assert not torch.equal(net.weight, before)
    if name != "sgd":
        default = optimizer_classes()[name](nn.Linear(3, 2).parameters()).defaults  # type: ignore[call-arg]
        assert {k: v for k, v in made.defaults.items() if k != "fused"} == {
            k: v for k, v in default.items() if k != "fused"
        }


def test_sgd_keeps_the_defaults_that_it_has_without_a_name() -> None:
    made, _ = Optimisation(OptimizerSection(), ScheduleSection()).make(
        nn.Linear(2, 2), steps_per_epoch=1, total_steps=1
    )
    group = made.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.1, 0.9, 5e-4, False)


def test_arguments_reach_the_class_and_an_import_path_is_a_class_too() -> None:
    net = nn.Linear(2, 2)
    for name in ("adamw", "AdamW", "torch.optim:AdamW"):
        section = OptimizerSection(name=name, lr=0.02, weight_decay=0.3, betas=[0.8, 0.9], eps=1e-5)  # type: ignore[call-arg]
        made, _ = Optimisation(section, ScheduleSection()).make(net, steps_per_epoch=1, total_steps=1)
        assert type(made) is torch.optim.AdamW
        group = made.param_groups[0]
        assert (group["lr"], group["weight_decay"], tuple(group["betas"]), group["eps"]) == (
            0.02,
            0.3,
            (0.8, 0.9),
            1e-5,
        )


@pytest.mark.parametrize(
    ("optimizer", "schedule", "message"),
    [
        ({"name": "adamww"}, {}, r"^optimizer.name: unknown optimizer 'adamww'; did you mean 'adamw'\?"),
        ({"name": "lbfgs"}, {}, "^optimizer.name: unknown optimizer 'lbfgs'"),
        (
            {"name": "adamw", "betaz": [0.9, 0.9]},
            {},
            "^optimizer.betaz: AdamW has no such argument; did you mean 'betas'",
        ),
        ({"name": "adamw", "momentum": 0.9}, {}, "^optimizer.momentum: AdamW has no such argument"),
        ({"name": "adamw", "betas": [0.9, 2.0]}, {}, "^optimizer: AdamW: Invalid beta parameter"),
        ({"name": "torch.optim:Nothing"}, {}, "^optimizer.name: module torch.optim: unknown class 'Nothing'"),
        ({"name": "torch.nn:Linear"}, {}, "must be a subclass of torch.optim.Optimizer"),
        (
            {"lr_factors": {"weigth": 0.1}},
            {},
            r"^optimizer.lr_factors: no parameter matches 'weigth'. Did you mean 'weight'",
        ),
        ({}, {"name": "StepLr"}, "^schedule.name: unknown schedule 'StepLr'; did you mean 'StepLR'"),
        ({}, {"name": "StepLR"}, "^schedule: StepLR: .*step_size"),
        (
            {},
            {"name": "StepLR", "stepsize": 2},
            "^schedule.stepsize: StepLR has no such argument; did you mean 'step_size'",
        ),
    ],
)
def test_what_does_not_exist_is_named(optimizer: dict[str, Any], schedule: dict[str, Any], message: str) -> None:
    made = Optimisation(OptimizerSection(**optimizer), ScheduleSection(**schedule))
    with pytest.raises(InputError, match=message):
        made.check(nn.Linear(2, 2))


def test_layer_decay_counts_blocks_from_the_head() -> None:
    parts = {"conv1": nn.Linear(1, 1), "layer1": nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)), "fc": nn.Linear(1, 1)}
    factors = lr_factors(
        list(nn.ModuleDict(parts).named_parameters()), layer_decay=0.5, patterns={"fc": 10, "*.bias": 2}
    )
    assert factors == {
        "conv1.weight": 0.125,
        "conv1.bias": 0.25,
        "layer1.0.weight": 0.25,
        "layer1.0.bias": 0.5,
        "layer1.1.weight": 0.5,
        "layer1.1.bias": 1.0,
        "fc.weight": 10,
        "fc.bias": 20,
    }


@pytest.mark.parametrize("name", ["constant", "cosine", "one_cycle"])
def test_the_warm_up_multiplies_the_schedule(name: str) -> None:
    plain = rates({"lr": 0.1}, {"name": name})
    warm = rates({"lr": 0.1}, {"name": name, "warmup_epochs": 2.5, "warmup_start": 0.2})
    factors = [0.2 + 0.8 * (step + 1) / 10 for step in range(10)] + [1.0] * 30
    assert warm == pytest.approx([rate * factor for rate, factor in zip(plain, factors, strict=True)])


def test_schedulers_of_torch_are_stepped_once_an_epoch_or_once_a_step() -> None:
    for interval, every in (("epoch", STEPS), ("step", 1)):
        got = rates({"lr": 1.0}, {"name": "ExponentialLR", "gamma": 0.5, "interval": interval})
        assert got == pytest.approx([0.5 ** (step // every) for step in range(40)])


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


def test_accumulated_and_clipped_gradients_are_those_of_the_larger_batch(tmp_path: Path) -> None:
    """With batch normalisation in evaluation mode, two batches of 8 are one of 16: weights, steps, epochs and rates."""
    common = ("student.freeze=['*bn*']", "schedule={name: cosine, warmup_epochs: 1.5}", "trainer.gradient_clip_val=0.2")
    ways = {"large": ("data.batch_size=16",), "small": ("data.batch_size=8", "trainer.accumulate_grad_batches=2")}
    configs = {name: small(tmp_path, *common, *way, f"name={name}") for name, way in ways.items()}
    for config in configs.values():
        train(config)
    large, parts = (checkpoint(config.directory / "checkpoints" / "last.ckpt") for config in configs.values())
    assert large["global_step"] == parts["global_step"] == 12
    for name, value in large["state_dict"].items():
        if name.startswith("student."):
            torch.testing.assert_close(parts["state_dict"][name], value, rtol=0, atol=1e-6)
    logged = [rows(config) for config in configs.values()]
    assert [(row["epoch"], row["step"]) for row in logged[1]] == [(row["epoch"], row["step"]) for row in logged[0]]
    for column in ("train/learning_rate", "train/gradient_norm", "train/loss"):
        first, second = ([float(row[column]) for row in table if row[column]] for table in logged)
        assert first == pytest.approx(second, rel=1e-4)
        assert len(first) == 3
    clipped = [float(row["train/gradient_norm"]) for row in logged[0] if row["train/gradient_norm"]]
    assert min(clipped) > 0.2  # the norm is logged before clipping, and clipping had an effect
