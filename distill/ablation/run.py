"""Run an ablation: all trials without a result, then the record, tables, plots and page."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import torch
from omegaconf import OmegaConf
from rich.console import Console

from distill.ablation.executors import Executor, LocalExecutor, Task
from distill.ablation.plan import Ablation, Trial, plan_ablation
from distill.ablation.preflight import run_preflight
from distill.ablation.progress import ProgressBoard
from distill.ablation.results import RunResult
from distill.ablation.statistics import summarise
from distill.ablation.trial import TrialJob, run_trial, train_teacher
from distill.build import check_config
from distill.console import PlainConsole
from distill.errors import InputError, RunError, StorageError
from distill.files import locked, storage_errors
from distill.report.ablation.page import write_ablation_report
from distill.report.ablation.record import ENOUGH_SEEDS, AblationRecord, TrialResult, save_ablation
from distill.training import InterruptError
from distill.training.environment import describe_machine
from distill.untrusted import printable

RECORD = "ablation.json"
Failures = dict[str, str]


class FinishedAblation(NamedTuple):
    """The record of an ablation, its folder, and the number of failed runs."""

    record: AblationRecord
    folder: Path
    failed: int

    @property
    def table(self) -> str:
        """The means and differences of all rows as Markdown; a notebook shows them."""
        return (self.folder / "table.md").read_text(encoding="utf-8")

    def _repr_markdown_(self) -> str:
        return self.table


def ablate(
    file: Path | str,
    *,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    max_runs: int | None = None,
    overwrite: bool = False,
    trust: bool = False,
    console: Console | None = None,
    **keys: Any,
) -> FinishedAblation:
    """Run an ablation: a grid of runs times seeds; only runs without a stored result are run.

    Convention:
        - Each run is a separate process. In a script, call this function under ``if __name__ == "__main__":``.
        - A failed run does not stop the others. ``failed`` is the number of failed runs; the same call runs them again.

    Args:
        file: The ablation file; see docs/ablations.md.
        overrides: Keys of the file that differ, as ``"key.path=value"`` strings or a mapping of dotted keys.
        max_runs: Largest number of runs; replaces the file's ``max_runs``.
        overwrite: Whether to replace runs with another configuration in the folders of the trials.
        trust: Whether the files of a teacher may name any code to import.
        console: Where progress is shown; standard error by default.
        keys: Keys of the file that differ, such as ``seeds=3`` or ``executor={"processes": 1}``.

    Returns:
        The record, its folder, and the number of failed runs; ``.table`` is the result as text.

    Raises:
        InputError: with all mistakes in the file, or if there are too many runs.
        RunError: if the teacher failed, or the user stopped the ablation; the same call resumes it.

    Example:
        In a notebook::

            done = distill.ablate("configs/ablation/tiny.yaml", seeds=1)
            done                    # is shown as a table
            done.record["trials"]   # every run with its metrics
    """
    given = dict(overrides) if isinstance(overrides, Mapping) else {}
    given |= keys if max_runs is None else {**keys, "max_runs": max_runs}
    pairs = [] if isinstance(overrides, Mapping) else list(overrides)
    pairs += [f"{key}={json.dumps(value, default=str)}" for key, value in given.items()]
    return run_ablation(plan(file, pairs, trust=trust), overwrite=overwrite, console=console)


def plan(path: Path | str, pairs: Sequence[str] = (), *, yes: bool = False, trust: bool = False) -> Ablation:
    """Read an ablation file, and return the planned ablation.

    Args:
        path: The ablation file.
        pairs: Overrides of keys of the file, as ``key.path=value``.
        yes: Whether to allow more runs than the file's ``max_runs``.
        trust: Whether the files of a teacher may name any code to import.

    Raises:
        InputError: with all errors; or if there are more runs than ``max_runs`` and ``yes`` is False.
    """
    return plan_ablation(path, pairs, check=check_config, yes=yes, trust=trust)


def run_ablation(ablation: Ablation, *, overwrite: bool = False, console: Console | None = None) -> FinishedAblation:
    """Run all trials without a result, and write the record, tables, plots and page.

    Args:
        ablation: The ablation to run.
        overwrite: Whether to replace runs with another configuration in the folders of the trials.
        console: Where progress is shown; standard error by default.

    Raises:
        InputError: if the ablation is already running in another process. The message names it and its host.
        RunError: if the teacher failed, or the user stopped the ablation; the same call resumes it.
    """
    console = console or PlainConsole(stderr=True)
    _create_folder(ablation)
    with locked(ablation.folder, doing="running an ablation"), _interruptible():
        results, failures = _run_trials(ablation, overwrite=overwrite, console=console)
        record = make_record(ablation, results, failures)
        save_ablation(record, ablation.folder / RECORD)
        write_ablation_report(ablation.folder, record=record, summary=summarise(record), facts=_facts(ablation))
    return FinishedAblation(record, ablation.folder, len(failures))


def find_results(ablation: Ablation) -> dict[str, RunResult]:
    """Return the stored results, by name of the run."""
    results = {
        trial.config.name: ablation.results.find(trial.identity, ablation.measured, ablation.file.metrics)
        for trial in ablation.trials
    }
    return {name: result for name, result in results.items() if result is not None}


def make_record(ablation: Ablation, results: dict[str, RunResult], failures: Failures) -> AblationRecord:
    """Return the record of all trials, ordered by row and seed."""
    file = ablation.file
    trials = sorted(ablation.trials, key=lambda trial: (ablation.rows.index(trial.row), trial.seed))
    return {
        "format": 1,
        "name": file.name,
        "baseline": file.baseline,
        "rows": list(ablation.rows),
        "seeds": list(file.seeds),
        "metrics": list(file.metrics),
        "axes": {key: list(values) for key, values in file.grid_axes.items()},
        "exploratory": len(file.seeds) < ENOUGH_SEEDS,
        "trials": [_trial_result(trial, results.get(trial.config.name), failures) for trial in trials],
    }


def make_executor(ablation: Ablation, *, alone: bool = False) -> Executor:
    """Return the executor that the file names; ``alone`` gives one run the whole machine."""
    section = ablation.file.executor
    if section.name == "ray":
        from distill.ablation.ray_executor import RayExecutor

        return RayExecutor(
            processes=section.processes,
            threads=section.threads,
            gpus=section.gpus,
            address=section.address,
            retries=section.retries,
        )
    gpus = [str(number) for number in range(torch.cuda.device_count())]
    processes = 1 if alone else section.processes
    return LocalExecutor(processes=processes, threads=section.threads, gpus=gpus, retries=section.retries)


def log_path(trial: Trial) -> Path:
    """Return the log file of a run, beside its directory, which does not exist before training starts."""
    return trial.config.directory.with_name(trial.config.name + ".log")


def _run_trials(ablation: Ablation, *, overwrite: bool, console: Console) -> tuple[dict[str, RunResult], Failures]:
    """Return the results of all trials, stored and new, and the reasons of the failures, by name of the run."""
    results = find_results(ablation)
    pending = {trial.config.name: trial for trial in ablation.trials if trial.config.name not in results}
    if pending:
        run_preflight(ablation, list(pending.values()))
        _train_teacher(ablation, list(pending.values()), console)
    failures: Failures = {}
    tasks = [Task(name, _job(ablation, trial, overwrite), log_path(trial)) for name, trial in pending.items()]
    with ProgressBoard(ablation.trials, console=console, log=log_path) as board:
        for trial in ablation.trials:
            if trial.config.name in results:
                board.mark_reused(trial)
        with closing(make_executor(ablation).run(tasks, partial(run_trial, trust=ablation.trusted))) as finished:
            for task in finished:
                result: RunResult | None = task.value
                if result is None:
                    failures[task.key] = task.reason or "unknown reason"
                else:
                    results[task.key] = result
                    ablation.results.save_if_missing(result)
                board.mark_finished(pending[task.key], result, task.reason, ablation.file.metrics[0])
    return results, failures


def _train_teacher(ablation: Ablation, trials: Sequence[Trial], console: Console) -> None:
    """Train the ablation's teacher, if a pending trial uses it."""
    teacher = ablation.teacher
    if teacher is None or all(
        t.config.teacher is None or t.config.teacher.checkpoint != str(teacher.directory) for t in trials
    ):
        return
    log = teacher.directory.with_name(teacher.name + ".log")
    console.print(
        printable(f"teacher: {teacher.directory} (log: {log.name} in the same folder)"),
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=True,
    )
    work = partial(train_teacher, trust=ablation.trusted)
    with closing(make_executor(ablation, alone=True).run([Task(teacher.name, teacher, log)], work)) as finished:
        for task in finished:
            if task.state != "done":
                raise RunError(f"training of the teacher failed: {task.reason} (log: {log})")


def _job(ablation: Ablation, trial: Trial, overwrite: bool) -> TrialJob:
    folders = tuple(str(folder) for folder in ablation.results.folders)
    figures = tuple(ablation.file.metrics)
    return TrialJob(trial.config, trial.identity, ablation.measured, figures, folders, overwrite)


def _trial_result(trial: Trial, result: RunResult | None, failures: Failures) -> TrialResult:
    return {
        "format": 1,
        "row": trial.row,
        "seed": trial.seed,
        "settings": trial.settings,
        "identity": trial.identity,
        "state": "failed" if result is None else "done",
        "reason": failures.get(trial.config.name) if result is None else None,
        "figures": {} if result is None else result["figures"],
        "seconds": 0.0 if result is None else result["seconds"],
    }


def _facts(ablation: Ablation) -> dict[str, dict[str, object]]:
    machine = describe_machine()
    packages = machine.pop("packages")
    return {ablation.file.name: {**machine, **packages, "configuration": OmegaConf.to_yaml(ablation.file.model_dump())}}


def _create_folder(ablation: Ablation) -> None:
    """Create the folder of the ablation; a path that is none is wrong input."""
    try:
        with storage_errors(ablation.folder):
            ablation.folder.mkdir(parents=True, exist_ok=True)
    except StorageError as error:
        if isinstance(error.__cause__, NotADirectoryError | FileExistsError):
            raise InputError(
                f"output_dir: cannot create {ablation.folder} ({error.__cause__}). Choose another output_dir."
            ) from error
        raise


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM stop the ablation in the same way, with an InterruptError.

    Both handlers are installed here: a shell starts background jobs with SIGINT ignored, and Python then installs no
    handler that raises KeyboardInterrupt.
    """

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt as error:
        raise InterruptError("stopped; finished runs are kept. Run the same command again to resume.") from error
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
