"""Run an ablation: every trial without a result, then the record, tables, plots and page."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

import torch
from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from rich.console import Console

from distill.ablation.executors import Executor, LocalExecutor, Task
from distill.ablation.plan import Ablation, Trial, plan_ablation
from distill.ablation.preflight import run_preflight
from distill.ablation.progress import ProgressBoard
from distill.ablation.results import RunResult
from distill.ablation.statistics import summarise
from distill.ablation.trial import TrialJob, run_trial, train_teacher
from distill.build import check_trainer_keys
from distill.errors import InputError, RunError
from distill.report.ablation.page import write_ablation_report
from distill.report.ablation.record import AblationRecord, TrialResult, save_ablation
from distill.training import InterruptError
from distill.training.environment import describe_machine

RECORD = "ablation.json"
ENOUGH_SEEDS = 8
Failures = dict[str, str]


class FinishedAblation(NamedTuple):
    """What was found, where it lies, and how many runs failed."""

    record: AblationRecord
    folder: Path
    failed: int


def plan(path: Path | str, pairs: Sequence[str] = (), *, yes: bool = False) -> Ablation:
    """Read an ablation, and see that it is no larger than was meant.

    Raises:
        InputError: with every mistake; or if there are more runs than ``max_runs`` and nobody said yes.
    """
    return plan_ablation(path, pairs, check=check_trainer_keys, yes=yes)


def ablate(ablation: Ablation, *, overwrite: bool = False, console: Console | None = None) -> FinishedAblation:
    """Run what has no result yet, and write the record, tables, drawings and the page.

    Args:
        ablation: What to run.
        overwrite: Whether other runs in the folders of these may be replaced.
        console: Where progress is shown.

    Raises:
        InputError: if the same ablation is running already.
        RunError: if the teacher failed, or the user stopped it; the same call goes on from there.
    """
    console = console or Console(stderr=True)
    with _exclusive(ablation), _interruptible():
        results, failures = _run(ablation, overwrite=overwrite, console=console)
        record = make_record(ablation, results, failures)
        save_ablation(record, ablation.folder / RECORD)
        write_ablation_report(ablation.folder, record=record, summary=summarise(record), facts=_facts(ablation))
    return FinishedAblation(record, ablation.folder, len(failures))


def find_results(ablation: Ablation) -> dict[str, RunResult]:
    """Find the results that are there, by the name of the run."""
    found = {
        trial.config.name: ablation.results.find(trial.identity, ablation.measured, ablation.file.metrics)
        for trial in ablation.trials
    }
    return {name: result for name, result in found.items() if result is not None}


def make_record(ablation: Ablation, results: dict[str, RunResult], failures: Failures) -> AblationRecord:
    """Put all trials together, in the order of rows and seeds."""
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
        "trials": [_entry(trial, results.get(trial.config.name), failures) for trial in trials],
    }


def make_executor(ablation: Ablation, *, alone: bool = False) -> Executor:
    """Make who carries out runs; ``alone`` gives one run the whole machine."""
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
    """Say where a run's own words go: beside its directory, which is not there from the first."""
    return trial.config.directory.with_name(trial.config.name + ".log")


def _run(ablation: Ablation, *, overwrite: bool, console: Console) -> tuple[dict[str, RunResult], Failures]:
    results = find_results(ablation)
    open_trials = {trial.config.name: trial for trial in ablation.trials if trial.config.name not in results}
    if open_trials:
        run_preflight(ablation, list(open_trials.values()))
        _train_teacher(ablation, list(open_trials.values()), console)
    failures: Failures = {}
    jobs = [Task(name, _job(ablation, trial, overwrite), log_path(trial)) for name, trial in open_trials.items()]
    with ProgressBoard(ablation.trials, console=console, log=log_path) as board:
        for trial in ablation.trials:
            if trial.config.name in results:
                board.known(trial)
        with closing(make_executor(ablation).run(jobs, run_trial)) as endings:
            for ended in endings:
                result: RunResult | None = ended.value
                if result is None:
                    failures[ended.key] = ended.reason or "no reason is known"
                else:
                    results[ended.key] = result
                    ablation.results.keep(result)
                board.end(open_trials[ended.key], result, ended.reason, ablation.file.metrics[0])
    return results, failures


def _train_teacher(ablation: Ablation, trials: Sequence[Trial], console: Console) -> None:
    """Train the teacher that the open runs share, unless it is there."""
    teacher = ablation.teacher
    if teacher is None or all(
        t.config.teacher is None or t.config.teacher.checkpoint != str(teacher.directory) for t in trials
    ):
        return
    log = teacher.directory.with_name(teacher.name + ".log")
    console.print(
        f"teacher: {teacher.directory} (its words are in {log.name} beside it)",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    with closing(make_executor(ablation, alone=True).run([Task(teacher.name, teacher, log)], train_teacher)) as endings:
        for ended in endings:
            if ended.state != "done":
                raise RunError(f"the teacher failed: {ended.reason} (see {log})")


def _job(ablation: Ablation, trial: Trial, overwrite: bool) -> TrialJob:
    folders = tuple(str(folder) for folder in ablation.results.folders)
    figures = tuple(ablation.file.metrics)
    return TrialJob(trial.config, trial.identity, ablation.measured, figures, folders, overwrite)


def _entry(trial: Trial, result: RunResult | None, failures: Failures) -> TrialResult:
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


@contextmanager
def _exclusive(ablation: Ablation) -> Iterator[None]:
    try:
        ablation.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output_dir: {ablation.folder} cannot be made ({error}); name another.") from error
    try:
        with FileLock(ablation.folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise InputError(
            f"{ablation.folder} is being run by another process; wait for it, or give this one another `name=`."
        ) from error


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the ablation in the same way."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt as error:
        raise InterruptError("stopped; what is finished is kept, and the same command goes on from there.") from error
    finally:
        signal.signal(signal.SIGTERM, before)
