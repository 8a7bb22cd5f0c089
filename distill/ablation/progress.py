"""The display of an ablation, read from what its runs write: one live table on a terminal, lines elsewhere."""

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

#: In the order in which they are shown, if not all can be.
STATES = ("running", "failed", "cut", "to do", "done")
_SPARE_LINES = 6


class TrialProgress(NamedTuple):
    """How far a run came: epochs that are done, the best of what it monitors, and whether its weights are kept."""

    epochs: int
    best: float | None
    kept: bool


def read_progress(trial: Trial) -> TrialProgress:
    """Read how far a run came."""
    config = trial.config
    kept = (config.directory / WEIGHTS_NAME).exists()
    try:
        watched = read_curves(config.directory, run="").series.get(config.monitor.metric, [])
    except InputError:  # not there yet, or being written
        watched = []
    best = max if config.monitor.mode == "max" else min
    return TrialProgress(
        watched[-1][0] + 1 if watched else 0, best(value for _, value in watched) if watched else None, kept
    )


def state_on_disk(trial: Trial) -> str:
    """Say what is left of an earlier attempt."""
    return "cut" if (trial.config.directory / "checkpoints" / "last.ckpt").exists() else "to do"


class ProgressBoard:
    """All runs with their state.

    Args:
        trials: The runs.
        console: Where to.
        log: Gives the file that a run prints to; a run is running once that was touched.
    """

    def __init__(self, trials: Sequence[Trial], *, console: Console, log: Callable[[Trial], Path]) -> None:
        self.trials, self.console, self.log = list(trials), console, log
        self.ended: dict[str, str] = {}
        self._begun: dict[str, tuple[float, int]] = {}
        self._found = 0
        self._since = time.time()
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

    def known(self, trial: Trial) -> None:
        """Note a run whose result was there before."""
        self.ended[trial.config.name] = "done"
        self._found += 1

    def end(self, trial: Trial, result: RunResult | None, reason: str | None, metric: str) -> None:
        """Note that a run came to its end."""
        self.ended[trial.config.name] = "failed" if result is None else "done"
        if self._live is None:
            value = None if result is None else result["figures"].get(metric)
            said = reason if result is None else f"{metric} {_number(value)}, {result['seconds']:.0f} s"
            line = f"{len(self.ended)}/{len(self.trials)}  {trial.row}, seed {trial.seed}: {said}; {self._left()}"
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def state(self, trial: Trial) -> str:
        """Say how a run stands."""
        if trial.config.name in self.ended:
            return self.ended[trial.config.name]
        log = self.log(trial)
        if log.exists() and log.stat().st_mtime >= self._since:
            return "running"
        return state_on_disk(trial)

    def render(self) -> Group:
        """Draw the table; of many runs those that matter now."""
        states = {trial.config.name: self.state(trial) for trial in self.trials}
        by_state = sorted(self.trials, key=lambda trial: STATES.index(states[trial.config.name]))
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("row", "seed", "state", "epoch", "best", "left"):
            table.add_column(column, justify="left" if column in ("row", "state") else "right", no_wrap=True)
        shown = by_state[: max(3, self.console.height - _SPARE_LINES)]
        for trial in shown:
            table.add_row(*map(Text, self._cells(trial, states[trial.config.name])))
        counts = Counter(states.values())
        words = [f"{counts[state]} {state}" for state in STATES if counts[state]]
        if len(shown) < len(self.trials):
            words.append(f"{len(self.trials) - len(shown)} not shown")
        if len(self.ended) > self._found:
            words.append(self._left())
        return Group(table, Text(", ".join(words)))

    def _left(self) -> str:
        """Say how long the rest will take if it goes on as it did."""
        made, left = len(self.ended) - self._found, len(self.trials) - len(self.ended)
        minutes = (time.time() - self._since) / 60 * left / made if made else 0.0
        return f"{minutes:.0f} min left" if left else "all done"

    def _cells(self, trial: Trial, state: str) -> tuple[str, ...]:
        far = read_progress(trial)
        total = trial.config.max_epochs
        left = ""
        if state == "running":
            begun, first = self._begun.setdefault(trial.config.name, (time.monotonic(), far.epochs))
            made = far.epochs - first
            if far.epochs == total:
                state = "evaluating" if far.kept else "keeping"
            elif made > 0:
                left = f"{(time.monotonic() - begun) / made * (total - far.epochs) / 60:.0f} min"
        return trial.row, str(trial.seed), state, f"{far.epochs}/{total}" if far.epochs else "", _number(far.best), left


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
