"""Whole epochs of real runs, by variant, compared with each other and with bare steps.

Each round builds and fits a run of one epoch for every variant in turn, in its own directory: module, Trainer, loader,
metrics.csv, TensorBoard and both checkpoints. The time runs from the start of the epoch to the end of training. It
excludes imports, data and networks (see `start`), and includes everything that each epoch repeats. A first round of a
few steps is the warm-up, which has the one-time costs of torch per process and shape. The validation split is a tenth
of the training images (an eighth in the demo); its time is reported separately, because it depends on the recipe.

Short epochs are the worst case: costs per epoch are divided by 20 steps here, and by 390 on CIFAR-10. The bare steps
are as many steps of the same module (or of the student alone) on a batch in memory, in the same round.

Cold: `teacher.cache=disk` in an empty folder. Warm: the same in a folder that an epoch of the same views has filled.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from distill.build import BuiltRun, build
from distill.config import Config
from distill.training import RunDirectory
from distill.training.module import CACHE_HITS

from .clock import Epoch, timed_fit
from .pairs import pair_ratios, seconds_of, spread
from .recipes import COLD, WARM, configure, random_teacher
from .setting import FLOOR, TERM_AT_FINAL, VARIANTS, WITHOUT_TEACHER, Row, Setting
from .steps import Step, floor_step, module_step

#: Variants that are compared with bare steps, and the variant of those steps.
BARE: Mapping[str, str] = {WITHOUT_TEACHER: FLOOR, TERM_AT_FINAL: TERM_AT_FINAL}
WARM_UP_STEPS = 3


@dataclass
class Measured:
    """Measurements of one variant, one value per round."""

    epochs: list[Epoch] = field(default_factory=list)
    hits: list[float] = field(default_factory=list)
    bare: list[list[float]] = field(default_factory=list)


def measure_epochs(setting: Setting) -> list[Row]:
    """Measure epochs of all variants in the last precision and batch size."""
    names = [TERM_AT_FINAL] if setting.quick else [*VARIANTS, COLD, WARM]
    measured = {name: Measured() for name in names}
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        random_teacher(folder, setting.teacher)
        make = partial(configure, folder, student=setting.student, precision=setting.precision, batch=setting.batch)
        if WARM in names:
            one_epoch(build(make(WARM, name="fill", steps=setting.steps)))
        for number in range(-1, setting.rounds_or(3)):
            steps = min(WARM_UP_STEPS, setting.steps) if number < 0 else setting.steps
            for place, name in enumerate(names if number % 2 else names[::-1]):
                config = make(name, name=f"{number}-{place}", steps=steps)
                epoch, hits = one_epoch(build(config))
                bare = bare_steps(config, BARE[name], setting.precision, steps) if name in BARE else []
                if number >= 0:
                    measured[name].epochs.append(epoch)
                    measured[name].hits.append(hits)
                    measured[name].bare.append(bare)
    return [_row(name, measured, setting) for name in names]


def one_epoch(run: BuiltRun) -> tuple[Epoch, float]:
    """Fit a run of one epoch; return its times and the share of cache hits (0 without a cache)."""
    epoch = timed_fit(run)[-1]
    with RunDirectory(run.config.directory).metrics.open(newline="") as file:
        hits = [float(row[CACHE_HITS]) for row in csv.DictReader(file) if row.get(CACHE_HITS)]
    return epoch, hits[-1] if hits else 0.0


def bare_steps(config: Config, kind: str, precision: str, steps: int) -> list[float]:
    """Time ``steps`` single steps of a run on its first batch, without loader, Trainer and log."""
    step = _bare_step(config, kind, precision)
    step()
    return [seconds_of(step) for _ in range(steps)]


def _bare_step(config: Config, kind: str, precision: str) -> Step:
    run = build(config)
    batch = next(iter(run.data.train_dataloader()))
    batch = run.data.on_after_batch_transfer(batch, 0)
    if kind == FLOOR:
        return floor_step(run.module.student, batch, precision, run.module.optimisation)
    return module_step(run.module, batch, precision)


def _row(name: str, measured: Mapping[str, Measured], setting: Setting) -> Row:
    of_variant, without = measured[name], measured.get(WITHOUT_TEACHER)
    training = [epoch.training for epoch in of_variant.epochs]
    row: Row = {
        "precision": setting.precision,
        "batch": setting.batch,
        "variant": name,
        "steps": setting.steps,
        "seconds": spread([epoch.seconds for epoch in of_variant.epochs])["median"],
        "validation_seconds": spread([epoch.validation for epoch in of_variant.epochs])["median"],
        "images_per_second": setting.steps * setting.batch / spread(training)["median"],
        "teacher_cache_hits": min(of_variant.hits) if name in (COLD, WARM) else None,
    }
    if without is not None:
        row["to_ce"] = pair_ratios(training, [epoch.training for epoch in without.epochs])
        row["to_ce_validated"] = pair_ratios(
            [epoch.seconds for epoch in of_variant.epochs], [epoch.seconds for epoch in without.epochs]
        )
    if name in BARE:
        bare = [sum(steps) for steps in of_variant.bare]
        row["bare"] = BARE[name]
        row["of_bare"] = pair_ratios(bare, training)
        row["of_bare_validated"] = pair_ratios(bare, [epoch.seconds for epoch in of_variant.epochs])
        row["overhead"] = pair_ratios(
            [epoch.step for epoch in of_variant.epochs], [spread(steps)["median"] for steps in of_variant.bare]
        )
    return row
