"""Repeat the step in which a run stopped being finite: after it failed, to find the step, and later from its file."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback

from distill.config import Config
from distill.files import replacing
from distill.models.damage import add_checksum
from distill.training.callbacks import ExactResume
from distill.training.checkpoint_files import find_resume_point, read_checkpoint
from distill.training.ema import EMA
from distill.training.extensions import make_callbacks
from distill.training.failed_step import (
    FAILED_STEP,
    State,
    StepWatch,
    check_failed_step,
    failed_step_content,
    stored_batches,
)
from distill.training.longer_schedule import LongerSchedule
from distill.training.module import DistillationModule
from distill.training.run_directory import RunDirectory
from distill.training.step_report import StepReport
from distill.training.trainer import IGNORED_WARNINGS, make_quiet_trainer


class Replay(NamedTuple):
    """A repeated step: its figures, None if it was finite; and those of the run, None if it did not find the step."""

    repeated: StepReport | None
    recorded: StepReport | None


def keep_failed_step(
    module: DistillationModule,
    data: pl.LightningDataModule,
    config: Config,
    state: State | None,
    *,
    until: int,
    callbacks: Sequence[Callback] = (),
) -> str:
    """Write the step in which a run stopped being finite to a file, and return a message about it.

    The steps since the last finite state are repeated, and each of them is checked. Runs of several processes write
    that state; the steps are repeated by :func:`replay_step` alone.

    Args:
        module: The module of the run.
        data: Its batches.
        config: Its configuration.
        state: The last finite state.
        until: Number of the last step that was made.
        callbacks: Callbacks of the run that are not in its configuration.
    """
    directory = RunDirectory(config.directory)
    path = directory.failed_step
    point = find_resume_point(directory)
    if point.path is not None and (state is None or point.step > state["global_step"]):
        state = read_checkpoint(point.path)
    assert state is not None
    _write({**state, FAILED_STEP: {"until": until, "batches": [], "report": None}}, directory)
    before = f"`distill train --replay {path}` repeats the steps from step {state['global_step']} on"
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return f"{before}, and prints the terms and gradients of the first one that is not finite."
    watch = _repeat_steps(module, data, config, path, StepWatch(until=until), callbacks)
    if watch.report is None:
        return (
            f"{before}. They were finite when they were repeated: operators of the device may not be deterministic, "
            "set trainer.deterministic=true."
        )
    _write(failed_step_content(watch), directory)
    cause, step, layer = watch.report.cause, watch.report.step, watch.report.module
    where = f"; the first module whose output is not finite is {layer}" if layer else ""
    return (
        f"The first values that are not finite are those of {cause} at step {step}{where}. "
        f"`distill train --replay {path}` repeats that step, and prints its terms and gradients."
    )


def _write(content: State, directory: RunDirectory) -> None:
    """Write the file of the failed step; several processes may do so at once, with the same state."""
    directory.check_exists()
    rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
    with replacing(directory.failed_step, suffix=f".{rank}.part" if rank else ".part") as part, part.open("wb") as file:
        torch.save(add_checksum(content), file)


def replay_step(module: DistillationModule, data: pl.LightningDataModule, config: Config, path: Path) -> Replay:
    """Repeat the step in the file of a failed step.

    Args:
        module: The module of the run, newly built.
        data: Its batches; those in the file take their place.
        config: The configuration of the run.
        path: The file.

    Raises:
        InputError: if the file cannot be read, is another checkpoint, or does not fit the network.
    """
    content = read_checkpoint(path)
    check_failed_step(content, path)
    about = content[FAILED_STEP]
    watch = StepWatch(until=about["until"], stored=stored_batches(content))
    report = _repeat_steps(module, data, config, path, watch, ()).report
    return Replay(report, None if about["report"] is None else StepReport.from_plain(about["report"]))


def _repeat_steps(
    module: DistillationModule,
    data: pl.LightningDataModule,
    config: Config,
    path: Path,
    watch: StepWatch,
    callbacks: Sequence[Callback],
) -> StepWatch:
    """Resume a run from a file without writing anything, until a step is not finite."""
    directory = RunDirectory(config.directory)
    own = [*([LongerSchedule()] if directory.extended else []), *([EMA(config.ema)] if config.ema else [])]
    every = [ExactResume(), *make_callbacks(config), *own, *callbacks, watch]
    trainer = make_quiet_trainer(config, directory, callbacks=every)
    with warnings.catch_warnings(), watch.watch(module):
        for message in IGNORED_WARNINGS:
            warnings.filterwarnings("ignore", message=f".*{message}.*")
        trainer.fit(module, datamodule=data, ckpt_path=path, weights_only=True)
    return watch
