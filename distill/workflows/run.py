"""`Run`: what `train` returns, the student, teacher and metrics of a run directory."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from distill.build import Objects
from distill.build.finished_run import image_size, load_reference
from distill.config import Config
from distill.models import StagedNetwork, load_model
from distill.report.common.curves import read_best_row
from distill.training.csv_log import read_run_curves
from distill.untrusted import Trust


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A run.

    Args:
        directory: The run directory.
        action: ``new`` (trained from the start), ``resume`` (resumed) or ``done`` (the run was already finished).
        config: The resolved configuration.
        objects: The Python objects that were passed.
        finished: Whether the run is finished. A run that ``trainer.max_time`` ended is not, and has no student yet.
        trust: Names ``package.module:callable`` that the user wrote, and that may be imported again.
    """

    directory: Path
    action: Literal["new", "resume", "done"]
    config: Config
    objects: Objects = field(default_factory=Objects, repr=False)
    finished: bool = True
    trust: Trust = field(default_factory=Trust, repr=False)

    def __repr__(self) -> str:
        """Return one line: name, directory and action."""
        unfinished = "" if self.finished else ", finished=False"
        return f"Run({self.config.name!r}, directory={str(self.directory)!r}, action={self.action!r}{unfinished})"

    @cached_property
    def student(self) -> StagedNetwork:
        """The trained student, in evaluation mode. It takes images in [0, 1]."""
        return load_model(self.directory, network=self.objects.student, trust=self.trust)

    @cached_property
    def teacher(self) -> StagedNetwork | None:
        """The teacher with the classes of the run, in evaluation mode, or None if the run has none."""
        section = self.config.teacher
        if section is None:
            return None
        network = self.objects.teacher
        size = image_size(self.config.data)
        return load_reference(
            section.checkpoint, section, self.student, teacher=section, size=size, network=network, trust=self.trust
        )

    @property
    def metrics(self) -> dict[str, float]:
        """The logged metrics of the epoch whose weights the student has, such as ``validation/accuracy``."""
        return selected_metrics(self.config)


def selected_metrics(config: Config) -> dict[str, float]:
    """Return the metrics of the epoch whose weights the student has: the best or the last epoch."""
    series = read_run_curves(config.directory, run=config.name).series
    watched = series.get(config.monitor.metric, [])
    if not watched:
        return {}
    best = max if config.monitor.mode == "max" else min
    epoch = watched[-1][0] if config.monitor.select == "last" else best(watched, key=lambda point: point[1])[0]
    metrics = {name: dict(points)[epoch] for name, points in series.items() if epoch in dict(points)}
    if config.monitor.select == "best":  # an epoch can have several validations
        metrics |= read_best_row(config.directory, config.monitor.metric, highest=config.monitor.mode == "max")
    return metrics
