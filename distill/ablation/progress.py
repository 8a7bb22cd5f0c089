"""Progress display of an ablation, read from the files of its runs: a live table on a terminal, else lines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from distill.ablation.plan import Trial
from distill.ablation.results import RunResult
from distill.errors import InputError
from distill.models.weights import WEIGHTS_NAME
from distill.report import read_curves
from distill.training import RunDirectory
from distill.untrusted import printable

#: States in the order in which the table shows them.
STATES = ("running", "failed", "interrupted", "pending", "done")
#: Lines of the terminal that the table leaves free.
_FREE_LINES = 6


class TrialProgress(NamedTuple):
    """Progress of a run: finished epochs, the best value of the monitored metric, and whether the weights are saved."""

    epochs: int
    best: float | None
    saved: bool


def read_progress(trial: Trial) -> TrialProgress:
    """Read the progress of a run from its directory."""
    config = trial.config
    saved = (config.directory / WEIGHTS_NAME).exists()
    try:
        values = read_curves(config.directory, run="").series.get(config.monitor.metric, [])
    except InputError:  # the file does not exist yet, or is being written
        values = []
    best = max if config.monitor.mode == "max" else min
    return TrialProgress(
        values[-1][0] + 1 if values else 0, best(value for _, value in values) if values else None, saved
    )


def state_on_disk(trial: Trial) -> str:
    """Return ``interrupted`` if the run has a checkpoint to resume from, else ``pending``."""
    return "interrupted" if RunDirectory(trial.config.directory).last.exists() else "pending"


class ProgressBoard:
    """Show the state of all trials.

    Args:
        trials: The trials.
        console: Where to print.
        log: Function that returns the log file of a trial; a trial is running once its log file has changed.
    """

    def __init__(self, trials: Sequence[Trial], *, console: Console, log: Callable[[Trial], Path]) -> None:
        self.trials, self.console, self.log = list(trials), console, log
        self.final_states: dict[str, str] = {}
        self._first_seen: dict[str, tuple[float, int]] = {}
        self._reused = 0
        self._start = time.time()
        self._live: Live | None = None

    def __enter__(self) -> ProgressBoard:
        if self.console.is_terminal:
            self._live = Live(get_renderable=self.render, console=self.console, refresh_per_second=1)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def mark_reused(self, trial: Trial) -> None:
        """Mark a trial as done whose result existed before."""
        self.final_states[trial.config.name] = "done"
        self._reused += 1

    def mark_finished(self, trial: Trial, result: RunResult | None, reason: str | None, metric: str) -> None:
        """Mark a trial as done, or as failed if it has no result, and print a line unless the table is live."""
        self.final_states[trial.config.name] = "failed" if result is None else "done"
        if self._live is None:
            value = None if result is None else result["figures"].get(metric)
            outcome = reason if result is None else f"{metric} {_number(value)}, {result['seconds']:.0f} s"
            count = f"{len(self.final_states)}/{len(self.trials)}"
            line = f"{count}  {trial.row}, seed {trial.seed}: {outcome}; {self._time_left()}"
            self.console.print(printable(line), markup=False, emoji=False, highlight=False, soft_wrap=True)

    def state(self, trial: Trial) -> str:
        """Return the state of a trial, one of :data:`STATES`."""
        if trial.config.name in self.final_states:
            return self.final_states[trial.config.name]
        log = self.log(trial)
        if log.exists() and log.stat().st_mtime >= self._start:
            return "running"
        return state_on_disk(trial)

    def render(self) -> Group:
        """Return the table; if it does not fit, the trials that are running or failed come first."""
        states = {trial.config.name: self.state(trial) for trial in self.trials}
        by_state = sorted(self.trials, key=lambda trial: STATES.index(states[trial.config.name]))
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("row", "seed", "state", "epoch", "best", "time left"):
            table.add_column(column, justify="left" if column in ("row", "state") else "right", no_wrap=True)
        shown = by_state[: max(3, self.console.height - _FREE_LINES)]
        for trial in shown:
            cells = self._cells(trial, states[trial.config.name])
            table.add_row(*(Text(printable(cell)) for cell in cells))
        counts = Counter(states.values())
        words = [f"{counts[state]} {state}" for state in STATES if counts[state]]
        if len(shown) < len(self.trials):
            words.append(f"{len(self.trials) - len(shown)} not shown")
        if len(self.final_states) > self._reused:
            words.append(self._time_left())
        return Group(table, Text(", ".join(words)))

    def _time_left(self) -> str:
        """Estimate the remaining time from the average time of the finished trials."""
        finished, left = len(self.final_states) - self._reused, len(self.trials) - len(self.final_states)
        minutes = (time.time() - self._start) / 60 * left / finished if finished else 0.0
        return f"{minutes:.0f} min left" if left else "all done"

    def _cells(self, trial: Trial, state: str) -> tuple[str, ...]:
        progress = read_progress(trial)
        total = trial.config.max_epochs
        left = ""
        if state == "running":
            start, first_epoch = self._first_seen.setdefault(trial.config.name, (time.monotonic(), progress.epochs))
            epochs = progress.epochs - first_epoch
            if progress.epochs == total:
                state = "evaluating" if progress.saved else "saving"
            elif epochs > 0:
                left = f"{(time.monotonic() - start) / epochs * (total - progress.epochs) / 60:.0f} min"
        return (
            trial.row,
            str(trial.seed),
            state,
            f"{progress.epochs}/{total}" if progress.epochs else "",
            _number(progress.best),
            left,
        )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
