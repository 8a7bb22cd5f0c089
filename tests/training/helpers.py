"""Small runs that train in seconds."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.build import BuiltRun, build, load_config
from distill.config import Config
from distill.models import create_model, save_model
from distill.training import RunDirectory, fit
from distill.types import Batch

SMALL = (
    "data={name: fashion_scenes, size: 16, count: {train: 64, validation: 37}, batch_size: 16, eval_batch_size: 16}",
    "student.name=wrn_10_1",
    "trainer={max_epochs: 3, accelerator: cpu, precision: 32-true, enable_progress_bar: false}",
    "loggers.tensorboard=false",
)
STEPS_PER_EPOCH = 4
KD = ("objective={cross_entropy: {weight: 0.1}, soft_targets: {weight: 0.9}, explanation: {weight: 5, layer: group2}}",)


def small(folder: Path, *pairs: str) -> Config:
    return load_config([], [*SMALL, f"output_dir={folder}", *pairs])


def save_teacher(folder: Path, name: str = "wrn_16_1", *, num_classes: int = 10, **options: Any) -> Path:
    """Save an untrained teacher with confident, varied predictions."""
    torch.manual_seed(11)
    net = create_model(name, num_classes=num_classes, **options)
    with torch.no_grad():
        net.network.fc.weight.mul_(4)  # type: ignore[union-attr,operator]
        net.train()
        for _ in range(20):
            net(torch.rand(16, net.spec.in_channels, 16, 16))
    return save_model(net, folder).parent


class CrashError(Exception):
    """Raised to end a run early."""


def train(
    config: Config,
    *,
    before_step: Callable[[int], None] | None = None,
    notify: Callable[[str], None] | None = None,
) -> BuiltRun:
    """Build and fit; `before_step` is called before each step with the number of completed steps."""
    run = build(config)
    RunDirectory(config.directory).open(run.config, run.identity)
    if before_step is not None:
        step = run.module.training_step

        def watched(batch: Batch, batch_idx: int = 0) -> Tensor:
            before_step(run.module.global_step)
            return step(batch, batch_idx)

        run.module.training_step = watched  # type: ignore[method-assign]
    fit(run.module, run.data, config, notify=notify)
    return run


def crash_at(number: int) -> Callable[[int], None]:
    def crash(step: int) -> None:
        if step == number:
            raise CrashError

    return crash


def checkpoint(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def rows(config: Config) -> list[dict[str, str]]:
    with RunDirectory(config.directory).metrics.open(newline="") as file:
        return list(csv.DictReader(file))
