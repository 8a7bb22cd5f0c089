"""One trial of an ablation: train a run, measure it on the test split, save its result."""

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
)
from distill.config import Config
from distill.errors import InputError
from distill.evaluation import (
    ONE_PASS,
    EvaluationCache,
    EvaluationSettings,
    MapSettings,
    evaluate,
)
from distill.models import StagedNetwork, load_model
from distill.report import read_curves
from distill.training import RunDirectory
from distill.workflows.train import train_config

#: Where a run lies is no part of its result, which may travel to another machine.
_PLACES: Any = {"name": True, "output_dir": True, "teacher": {"checkpoint": True, "cache_dir": True}}
STUDENT, TEACHER = "student", "teacher"
#: Figures that need images to be looked at again: through the map, and with ever fewer or more of their pixels.
MASKED = {"average_drop", "increase_in_confidence", "win_rate", "coherency", "adcc"}
PERTURBED = {"deletion_auc", "insertion_auc"}


@dataclass(frozen=True)
class TrialJob:
    """What a process needs to know of one run.

    Args:
        config: The run.
        identity: Of what it computes, as the ablation knows it.
        measured: Test sets and maps.
        figures: That must be among what is measured.
        results: Folders of results, the own one first.
        overwrite: Whether another run in its directory may be replaced.
    """

    config: Config
    identity: str
    measured: Mapping[str, Any]
    figures: tuple[str, ...]
    results: tuple[str, ...]
    overwrite: bool = False


def run_trial(job: TrialJob) -> RunResult:
    """Train, go on with, or find a run, and measure it; of processes that run the same, one does and the others wait.

    Raises:
        InputError: if something in it does not fit.
        RunError: if it failed.
    """
    results = Results(job.results)
    start = time.monotonic()
    with _lock(results.folders[0] / job.identity):
        known = results.find(job.identity, job.measured, job.figures)
        if known is not None:
            return known
        config = _find_finished(job.config, results.find_run(job.identity))
        if config is None:
            config = job.config
            train_once(config, overwrite=job.overwrite)
            results.remember_run(job.identity, config.directory)
        earlier = results.find(job.identity, job.measured, ())
        measured = measure(
            config,
            job.measured["test_sets"],
            maps=MapSettings(**job.measured["maps"]),
            extent=settings_for(job.figures),
        )
        figures: Figures = {**dict.fromkeys(job.figures), **(earlier["figures"] if earlier else {})}
        figures |= {name: value for name, value in measured.items() if value is not None}
        result: RunResult = {
            "format": 1,
            "identity": job.identity,
            "measured": dict(job.measured),
            "config": job.config.model_dump(mode="json", exclude=_PLACES),
            "figures": dict(sorted(figures.items())),
            "seconds": round(time.monotonic() - start, 1),
        }
        results.save(result)
        return result


def _find_finished(config: Config, run: Path | None) -> Config | None:
    """Give the configuration as that of the same run in another directory, if it is finished there."""
    if run is None:
        return None
    there = config.model_copy(update={"name": run.name, "output_dir": str(run.parent)})
    try:
        done = RunDirectory(run).state(run_identity(there)) == "done"
    except InputError:  # another run took its place
        return None
    return there if done else None


def train_teacher(config: Config) -> str:
    """Train a teacher that ablations share, or find it; of processes that want the same, one does and the others wait.

    Raises:
        InputError: if something in it does not fit.
        RunError: if it failed.
    """
    with _lock(config.directory):
        train_once(config, overwrite=False)
    return str(config.directory)


def train_once(config: Config, *, overwrite: bool) -> None:
    """Train a run, or go on with it; another one in its directory is replaced, if it may be."""
    replace = False
    try:
        RunDirectory(config.directory).state(run_identity(config))
    except InputError:
        if not overwrite:
            raise
        replace = True
    train_config(config, overwrite=replace, notify=lambda text: print(text, file=sys.stderr, flush=True))


def _lock(path: Path) -> FileLock:
    """Give the lock of what will lie at a path; it dies with its process."""
    locks = path.parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / f"{path.name}.lock")


def settings_for(figures: Iterable[str]) -> EvaluationSettings:
    """Choose how much is measured: no more than one pass over the images, unless a figure asks for it.

    Example:
        >>> settings_for(["test/accuracy"]) == ONE_PASS
        True
        >>> settings_for(["test/adcc"]).masked
        True
    """
    wanted = {figure.rpartition("/")[2] for figure in figures}
    perturbed = EvaluationSettings.perturbed if wanted & PERTURBED else 0
    return replace(ONE_PASS, masked=bool(wanted & MASKED), perturbed=perturbed)


def measure(
    config: Config, test_sets: Mapping[str, Mapping[str, Any]], *, maps: MapSettings, extent: EvaluationSettings
) -> Figures:
    """Measure a finished run's student, beside its teacher if it has one, on its test split.

    Returns:
        Figures by ``SET/figure``, and the accuracy on the validation split of the weights that were kept.
    """
    sets = {name: load_images(config.data, "test", **changes) for name, changes in test_sets.items()}
    networks: dict[str, StagedNetwork] = {STUDENT: load_model(config.directory)}
    known: Mapping[str, Mapping[str, EvaluationCache]] = {}
    if config.teacher is not None:
        networks[TEACHER] = load_teacher(config.teacher, next(iter(sets.values()))).eval()
        known = open_evaluation_cache(config, TEACHER, networks[TEACHER], sets, maps)
    record, _ = evaluate(
        networks,
        reference=TEACHER if config.teacher else None,
        sets=sets,
        maps=maps,
        settings=extent,
        device="cuda" if torch.cuda.is_available() else "cpu",
        caches=known,
    )
    figures: Figures = {VALIDATION: kept_accuracy(config)}
    for name, entry in record["sets"].items():
        for figure, measured in entry["networks"][STUDENT]["figures"].items():
            figures[f"{name}/{figure}"] = measured["value"] if measured else None
    return figures


def kept_accuracy(config: Config) -> float | None:
    """Give the validation accuracy of the epoch whose weights became the student's."""
    series = read_curves(config.directory, run=config.name).series
    accuracy = dict(series.get(VALIDATION, ()))
    watched = series.get(config.monitor.metric, [])
    if not watched:
        return None
    if config.monitor.select == "last":
        return accuracy.get(watched[-1][0])
    choose = max if config.monitor.mode == "max" else min
    return accuracy.get(choose(watched, key=lambda point: point[1])[0])
