"""One trial of an ablation: train a run, evaluate it on the test split and save the result."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from distill.ablation.checks import VALIDATION
from distill.ablation.results import Figures, Results, RunResult
from distill.build import (
    load_images,
    load_teacher,
    open_evaluation_cache,
    run_identity,
    trust_in,
)
from distill.build.teacher_classes import keeps_own_classes
from distill.config import Config, is_weights_path
from distill.errors import InputError, RunError
from distill.evaluation import (
    ONE_PASS,
    EvaluationCache,
    EvaluationSettings,
    MapSettings,
    evaluate,
)
from distill.models import StagedNetwork, load_model
from distill.training import RunDirectory
from distill.untrusted import Trust, printable
from distill.workflows.run import selected_metrics
from distill.workflows.train import train_config

#: Paths are left out of results, so that results are valid on other machines.
_PATHS: Mapping[str, Any] = {"name": True, "output_dir": True, "teacher": {"checkpoint": True, "cache_dir": True}}
STUDENT, TEACHER = "student", "teacher"
#: Metrics that need further forward passes: on images masked by the map, and on images with pixels deleted or inserted.
MASKED = {"average_drop", "increase_in_confidence", "win_rate", "coherency", "adcc"}
PERTURBED = {"deletion_auc", "insertion_auc"}


@dataclass(frozen=True)
class TrialJob:
    """Arguments of a trial; picklable, so that it can run in another process.

    Args:
        config: Configuration of the run.
        identity: Hash of what the run computes.
        measured: Evaluation settings: ``test_sets`` and ``maps``.
        figures: Metrics that the result must contain.
        results: Folders of results; the first is written to.
        overwrite: Whether to replace a run with another configuration in the run's directory.
    """

    config: Config
    identity: str
    measured: Mapping[str, Any]
    figures: tuple[str, ...]
    results: tuple[str, ...]
    overwrite: bool = False


def run_trial(job: TrialJob, *, trust: Trust | bool = False) -> RunResult:
    """Return the stored result of a run, or train (or resume) the run, evaluate it and store the result.

    A lock per run makes other processes with the same run wait for its result.

    Args:
        job: The run.
        trust: Names that the files of a teacher may import, in addition to those in the configuration.

    Raises:
        InputError: if the configuration is invalid.
        RunError: if training failed.
    """
    results = Results(job.results)
    start = time.monotonic()
    with _lock(results.folders[0] / job.identity):
        stored = results.find(job.identity, job.measured, job.figures)
        if stored is not None:
            return stored
        config = _find_trained_run(job.config, results.find_run(job.identity))
        if config is None:
            config = job.config
            train_once(config, overwrite=job.overwrite, trust=trust)
            results.save_run_path(job.identity, config.directory)
        earlier = results.find(job.identity, job.measured, ())
        measured = measure(
            config,
            job.measured["test_sets"],
            maps=MapSettings(**job.measured["maps"]),
            settings=settings_for(job.figures),
            trust=trust,
        )
        figures: Figures = {**dict.fromkeys(job.figures), **(earlier["figures"] if earlier else {})}
        figures |= {name: value for name, value in measured.items() if value is not None}
        result: RunResult = {
            "format": 1,
            "identity": job.identity,
            "measured": dict(job.measured),
            "config": job.config.model_dump(mode="json", exclude=_paths(job.config)),
            "figures": dict(sorted(figures.items())),
            "seconds": round(time.monotonic() - start, 1),
        }
        results.save(result)
        return result


def _find_trained_run(config: Config, run: Path | None) -> Config | None:
    """Return the configuration with the directory of an earlier training of the same run, or None."""
    if run is None:
        return None
    earlier = config.model_copy(update={"name": run.name, "output_dir": str(run.parent)})
    try:
        done = RunDirectory(run).state(run_identity(earlier)) == "done"
    except InputError:  # the directory now contains another run
        return None
    return earlier if done else None


def train_teacher(config: Config, *, trust: Trust | bool = False) -> str:
    """Train a teacher that ablations share, unless it is trained already, and return its directory.

    A lock makes other processes with the same teacher wait.

    Args:
        config: The run of the teacher.
        trust: Names that the files of its own teacher may import, in addition to those in the configuration.

    Raises:
        InputError: if the configuration is invalid.
        RunError: if training failed.
    """
    with _lock(config.directory):
        train_once(config, overwrite=False, trust=trust)
    return str(config.directory)


def train_once(config: Config, *, overwrite: bool, trust: Trust | bool = False) -> None:
    """Train or resume a run; with ``overwrite``, replace a run with another configuration in its directory."""
    replace_existing = False
    try:
        RunDirectory(config.directory).state(run_identity(config))
    except InputError:
        if not overwrite:
            raise
        replace_existing = True
    run = train_config(config, overwrite=replace_existing, trust=trust, notify=_notify)
    if not run.finished:
        raise RunError("not finished: trainer.max_time ended the run, which resumes there. Set a longer max_time.")


def _notify(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)


def _lock(path: Path) -> FileLock:
    """Return the lock for a path; the operating system releases it when the process ends."""
    locks = path.parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / f"{path.name}.lock")


def settings_for(figures: Iterable[str]) -> EvaluationSettings:
    """Return evaluation settings with only the passes over the images that the metrics need.

    Example:
        >>> settings_for(["test/accuracy"]) == ONE_PASS
        True
        >>> settings_for(["test/adcc"]).masked
        True
    """
    names = {figure.rpartition("/")[2] for figure in figures}
    perturbed = EvaluationSettings.perturbed if names & PERTURBED else 0
    return replace(ONE_PASS, masked=bool(names & MASKED), perturbed=perturbed)


def _paths(config: Config) -> dict[str, Any]:
    return {**_PATHS, **({"student": {"weights": True}} if is_weights_path(config.student.weights) else {})}


def measure(
    config: Config,
    test_sets: Mapping[str, Mapping[str, Any]],
    *,
    maps: MapSettings,
    settings: EvaluationSettings,
    trust: Trust | bool = False,
) -> Figures:
    """Evaluate the student of a finished run, and its teacher if it has one, on the test split.

    Args:
        config: Configuration of the run.
        test_sets: Changes to the data section, by name of the test set.
        maps: How maps are computed.
        settings: How much is measured.
        trust: Names that the files of a teacher may import, in addition to those in the configuration.

    Returns:
        Values by ``SET/METRIC``, and the validation accuracy of the saved weights.
    """
    trust = trust_in(config, also=trust)
    sets = {name: load_images(config.data, "test", trust=trust, **changes) for name, changes in test_sets.items()}
    networks: dict[str, StagedNetwork] = {STUDENT: load_model(config.directory, trust=trust)}
    caches: Mapping[str, Mapping[str, EvaluationCache]] = {}
    reference = TEACHER if config.teacher is not None and not keeps_own_classes(config.teacher) else None
    if config.teacher is not None and reference is not None:
        networks[TEACHER] = load_teacher(config.teacher, next(iter(sets.values())), trust=trust).eval()
        caches = open_evaluation_cache(config, TEACHER, networks[TEACHER], sets, maps)
    record, _ = evaluate(
        networks,
        reference=reference,
        sets=sets,
        maps=maps,
        settings=settings,
        device="cuda" if torch.cuda.is_available() else "cpu",
        caches=caches,
    )
    figures: Figures = {VALIDATION: selected_metrics(config).get(VALIDATION)}
    for name, entry in record["sets"].items():
        for figure, measured in entry["networks"][STUDENT]["figures"].items():
            figures[f"{name}/{figure}"] = measured["value"] if measured else None
    return figures
