"""`distill ablate`."""

from __future__ import annotations

import math
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from distill.ablation.estimate import estimate_training_seconds
from distill.ablation.executors import Task
from distill.ablation.plan import Ablation
from distill.ablation.preflight import run_preflight
from distill.ablation.progress import state_on_disk
from distill.ablation.run import (
    FinishedAblation,
    find_results,
    log_path,
    make_executor,
    plan,
    run_ablation,
)
from distill.ablation.statistics import summarise
from distill.cli.options import split_files
from distill.config.dotted_keys import format_setting
from distill.console import PlainConsole, print_table
from distill.errors import InputError, RunError
from distill.report.ablation.record import TrialResult
from distill.report.ablation.table import (
    CLAIMS,
    Cell,
    exploratory_warning,
    legend,
    sections,
)
from distill.untrusted import printable

_COLOURS = {"better": "green", "worse": "red", "different": "blue"}
TABLE, PAGE = "table.md", "report.html"


def run(arguments: list[str], *, dry_run: bool, yes: bool, overwrite: bool, trust: bool) -> None:
    """Run the remaining trials, and print the table and the path of the report."""
    files, pairs = split_files(arguments)
    if len(files) != 1:
        raise InputError(f"expected one ablation file, got {len(files)}; see configs/ablation.")
    ablation = plan(files[0], pairs, yes=yes, trust=trust)
    if dry_run:
        _list(ablation)
        return
    console = PlainConsole(stderr=True)
    runs = ablation.folder / "runs"
    console.print(f"curves of all runs: tensorboard --logdir {runs}", soft_wrap=True)
    done = run_ablation(ablation, overwrite=overwrite, console=console)
    show(done, PlainConsole())
    console.print(f"report: {done.folder / PAGE}", soft_wrap=True)
    if done.failed:
        raise RunError(_failures(ablation, done.record["trials"], done.failed))


def show(done: FinishedAblation, console: Console) -> None:
    """Print the means if the output is a terminal; else print all of table.md."""
    if not console.is_terminal:
        print(printable((done.folder / TABLE).read_text(encoding="utf-8")), end="")
        return
    summary = summarise(done.record)
    for section in sections(summary):
        table = Table(
            "row",
            "seeds",
            *section.titles,
            title=Text(printable(section.name)),
            title_justify="left",
            box=box.SIMPLE_HEAD,
        )
        for line in section.lines:
            cells = [Text("–") if cell is None else _cell(cell) for cell in line.cells]
            table.add_row(Text(printable(line.row)), str(line.seeds), *cells)
        print_table(console, table)
    unit = "Half of an interval of percentages is in points (percentage points)."
    for text in (legend(summary), unit, exploratory_warning(summary), f"all differences: {done.folder / TABLE}"):
        if text:
            console.print(Text(printable(text)))


def _cell(cell: Cell) -> Text:
    text = Text(f"{cell.text} {cell.spread}".strip())
    if cell.verdict in CLAIMS:
        text.append(f" {cell.verdict}", style=f"bold {_COLOURS[cell.verdict]}")
    return text if cell.n is None else text.append(f" (n = {cell.n})")


def _failures(ablation: Ablation, trials: list[TrialResult], failed: int) -> str:
    logs = {(trial.row, trial.seed): log_path(trial) for trial in ablation.trials}
    lines = [
        f"{t['row']}, seed {t['seed']}: {t['reason']} ({logs[t['row'], t['seed']]})"
        for t in trials
        if t["state"] == "failed"
    ]
    count = "1 run failed" if failed == 1 else f"{failed} runs failed"
    return f"{count}. Run the same command again to repeat:\n  " + "\n  ".join(lines)


def _list(ablation: Ablation) -> None:
    """Print the state of each run, and the estimated time of the runs that are left."""
    results = find_results(ablation)
    table = Table("row", "seed", "state", "settings", box=box.SIMPLE_HEAD, pad_edge=False)
    for trial in ablation.trials:
        state = "done" if trial.config.name in results else state_on_disk(trial)
        settings = " ".join(f"{key}={format_setting(value)}" for key, value in trial.settings.items())
        table.add_row(trial.row, str(trial.seed), state, settings)
    print_table(PlainConsole(), table)
    left = [trial for trial in ablation.trials if trial.config.name not in results]
    run_preflight(ablation, left)
    console = PlainConsole(stderr=True)
    if not left:
        console.print("no runs left")
        return
    seconds, processes = _measure_seconds(ablation, left[0].config.name), ablation.file.executor.processes
    minutes = seconds * math.ceil(len(left) / processes) / 60
    console.print(
        f"runs left: {len(left)}; estimated training time: {minutes:.0f} min ({left[0].row!r} takes {seconds:.0f} s, "
        f"{processes} runs at a time), without the teacher's training, validation and evaluation.",
        soft_wrap=True,
    )


def _measure_seconds(ablation: Ablation, name: str) -> float:
    """Time the first steps of a run with the ablation's executor, and return the estimated training time."""
    config = next(trial.config for trial in ablation.trials if trial.config.name == name)
    with TemporaryDirectory() as folder:
        estimate = partial(estimate_training_seconds, trust=ablation.trusted)
        task = Task(name, (config, ablation.teacher), Path(folder) / "log")
        with closing(make_executor(ablation).run([task], estimate)) as endings:
            for ended in endings:
                if ended.state != "done":
                    raise InputError(f"{name}: {ended.reason}")
                return float(ended.value)
    raise RunError(f"{name}: the executor returned no time for the first training steps.")
