"""One optimiser step on a batch in memory, by variant."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F

from distill.build import build_module
from distill.config import Config, LayeredTerm, load
from distill.models import StagedNetwork, create_model
from distill.teachers import FrozenTeacher
from distill.training import DistillationModule, Optimisation
from distill.types import Batch

from .pairs import alternate, pair_ratios, spread
from .setting import FLOOR, REFERENCE, TERM_AT_FINAL, VARIANTS, Row, Setting

Step = Callable[[], None]
Build = Callable[[], StagedNetwork]
#: Steps of the schedule, more than any measurement makes.
SCHEDULED = 10_000


def autocast(precision: str) -> AbstractContextManager[object]:
    """Return the context in which training in this precision computes."""
    return torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def make_step(
    variant: str,
    precision: str,
    *,
    batch: int,
    teacher: str | Build,
    student: str | Build,
    size: int = 32,
    classes: int = 10,
) -> Step:
    """Return the optimiser step of a variant, on new networks and a random batch.

    Args:
        variant: One of ``VARIANTS``, or ``FLOOR``.
        precision: ``float32`` or ``bf16``.
        batch: Images per step.
        teacher: Network, or a function that builds it.
        student: Likewise.
        size: Height and width of the images.
        classes: Number of classes.
    """
    torch.manual_seed(0)
    pairs = VARIANTS[TERM_AT_FINAL if variant == FLOOR else variant]
    config = load([], [*pairs, *(["teacher.checkpoint=random"] if pairs else [])])
    network = _network(student, classes).to(memory_format=torch.channels_last)
    images = torch.rand(batch, 3, size, size).to(memory_format=torch.channels_last)
    numbers = torch.arange(batch)
    data = Batch(images, torch.randint(classes, (batch,)), numbers, numbers)
    if variant == FLOOR:
        return floor_step(network, data, precision, Optimisation(config.optimizer, config.schedule))
    frozen = None
    if config.teacher is not None:
        frozen = FrozenTeacher(_network(teacher, classes), layers=_layers(config))
    return module_step(build_module(config, network, frozen), data, precision)


def _network(name: str | Build, classes: int) -> StagedNetwork:
    return create_model(name, num_classes=classes) if isinstance(name, str) else name()


def floor_step(student: torch.nn.Module, data: Batch, precision: str, optimisation: Optimisation) -> Step:
    """Return a step that trains a network on the labels of a batch, without anything else."""
    optimizer, schedule = optimisation.make(student, steps_per_epoch=SCHEDULED, total_steps=SCHEDULED)
    student.train()

    def step() -> None:
        with autocast(precision):
            loss = F.cross_entropy(student(data.images), data.labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.scheduler.step()

    return step


def module_step(module: DistillationModule, data: Batch, precision: str) -> Step:
    """Return a step that trains a module on a batch without a Trainer."""
    optimizer, schedule = module.optimisation.make(module, steps_per_epoch=SCHEDULED, total_steps=SCHEDULED)
    module.train()

    def step() -> None:
        with autocast(precision):
            loss = module.training_step(data)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.scheduler.step()

    return step


def measure_steps(setting: Setting) -> list[Row]:
    """Time the step of every variant for each precision and batch size."""
    names = [REFERENCE, TERM_AT_FINAL] if setting.quick else [FLOOR, *VARIANTS]
    rows: list[Row] = []
    for precision in setting.precisions:
        for batch in setting.batches:
            steps = {
                name: make_step(name, precision, batch=batch, teacher=setting.teacher, student=setting.student)
                for name in names
            }
            seconds = alternate(steps, rounds=setting.rounds_or(7), warm_up=2)
            for name in names:
                median = spread(seconds[name])["median"]
                rows.append(
                    {
                        "precision": precision,
                        "batch": batch,
                        "variant": name,
                        "seconds": median,
                        "images_per_second": batch / median,
                        "ratio": pair_ratios(seconds[name], seconds[REFERENCE]),
                        "to_floor": pair_ratios(seconds[name], seconds[FLOOR]) if FLOOR in seconds else None,
                    }
                )
    return rows


def _layers(config: Config) -> set[str]:
    terms = [term for term in config.objective.values() if isinstance(term, LayeredTerm)]
    return {term.layer_of_teacher(layer) for term in terms for layer in term.layers}
