"""Finished runs -> a record, pictures and a page, side by side."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from distill.build import load_config, load_images
from distill.config import DataSection
from distill.data import ImageSet, same_images
from distill.errors import InputError
from distill.evaluation import MapSettings, evaluate, make_gallery
from distill.models import load_model
from distill.report import EvaluationRecord, read_curves, save_grid, save_record, write_report
from distill.training import RunDirectory

GALLERY_IMAGES, GALLERY_SEED = 8, 0


class Evaluation(NamedTuple):
    """What was measured, and where it was written."""

    record: EvaluationRecord
    report: Path


def evaluate_runs(
    runs: Sequence[str],
    *,
    reference: str | None = None,
    on: Sequence[str] = (),
    maps: MapSettings | None = None,
    limit: int | None = None,
    output: Path | None = None,
    title: str = "Evaluation",
) -> Evaluation:
    """Measure runs on their test split, and write evaluation.json, maps.png and report.html.

    Args:
        runs: Run directories, each with a label before it if it likes: ``CE + KD=runs/kd``.
        reference: The teacher's; the others are compared with it.
        on: Test sets, each ``key=value[,key=value]`` of the data section; the runs' own if there are none.
        maps: How networks are explained.
        limit: Use only the first images of each test set.
        output: Folder; the run's own, or the parent of several.
        title: Headline of the page.

    Raises:
        InputError: if a run is missing or unfinished, or runs differ in their classes or test images.
    """
    given = [reference, *runs] if reference else list(runs)
    folders = _labelled(given)
    networks = {name: load_model(folder) for name, folder in folders.items()}
    sections = {name: load_config([_recorded(folder)]).data for name, folder in folders.items()}
    sets = {name: _test_set(sections, changes, limit) for name, changes in _changes(on).items()}
    output = output or (_split(runs[0])[1] if len(runs) == 1 else _parent(folders.values()))
    settings = {"reference": next(iter(folders)) if reference else None, "maps": maps}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with _progress() as progress:
        tasks = {name: progress.add_task(f"evaluate on {name}", total=len(data)) for name, data in sets.items()}
        record = evaluate(
            networks,
            sets=sets,
            device=device,
            progress=lambda name, done, total: progress.update(tasks[name], completed=done, total=total),
            **settings,  # type: ignore[arg-type]
        )
    galleries = [
        make_gallery(
            networks,
            set_name=name,
            data=data,
            count=GALLERY_IMAGES,
            seed=GALLERY_SEED,
            device=device,
            **settings,  # type: ignore[arg-type]
        )
        for name, data in sets.items()
    ]
    save_record(record, output / "evaluation.json")
    save_grid(galleries[-1], output / "maps.png")
    page = write_report(
        output / "report.html",
        title=title,
        record=record,
        curves=[read_curves(folder, run=name) for name, folder in folders.items()],
        galleries=galleries,
        facts={name: _facts(folder) for name, folder in folders.items()},
    )
    return Evaluation(record, page)


def _labelled(given: Sequence[str]) -> dict[str, Path]:
    """Read `LABEL=RUN`; a run without a label has its path below what all runs share."""
    pairs = [_split(text) for text in given]
    parent = _parent([path for _, path in pairs])
    folders: dict[str, Path] = {}
    for label, path in pairs:
        name = label or str(path.resolve().relative_to(parent))
        if folders.setdefault(name, path) != path:
            raise InputError(f"two runs are called {name!r}: {folders[name]} and {path}; label one, LABEL=RUN.")
    return folders


def _split(text: str) -> tuple[str, Path]:
    label, mark, path = text.partition("=")
    return (label, Path(path)) if mark and not Path(text).exists() else ("", Path(text))


def _parent(folders: Iterable[Path]) -> Path:
    return Path(os.path.commonpath([folder.resolve().parent for folder in folders]))


def _recorded(folder: Path) -> Path:
    recorded = RunDirectory(folder).config
    if not recorded.exists():
        raise InputError(f"{folder} is not a run directory: it has no {recorded.name}.")
    return recorded


def _changes(on: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read the test sets that were asked for, and name each by its values."""
    sets: dict[str, dict[str, Any]] = {}
    for text in on:
        try:
            pairs = OmegaConf.to_container(OmegaConf.from_dotlist(text.split(",")))
        except OmegaConfBaseException as error:
            raise InputError(f"--on takes key=value[,key=value] of the data section, got {text!r}: {error}") from error
        assert isinstance(pairs, dict)
        if not pairs or any(value is None for value in pairs.values()):
            raise InputError(f"--on takes key=value[,key=value] of the data section, got {text!r}.")
        sets[", ".join(str(value) for value in pairs.values())] = {str(key): value for key, value in pairs.items()}
    return sets or {"test": {}}


def _test_set(sections: Mapping[str, DataSection], changes: Mapping[str, Any], limit: int | None) -> ImageSet:
    """Load the test split, and see that it is the same for all runs."""
    by_section: dict[str, tuple[str, ImageSet]] = {}
    for run, section in sections.items():
        key = json.dumps([section.name, section.seed, {**section.options, **changes}], sort_keys=True, default=str)
        if key not in by_section:
            by_section[key] = (run, load_images(section, "test", **changes))
    (first, data), *others = by_section.values()
    for other, theirs in others:
        same = len(data) == len(theirs) and data.images.shape == theirs.images.shape
        if data.classes != theirs.classes or not same or not same_images(data.images, theirs.images):
            raise InputError(
                f"runs {first!r} and {other!r} have different test images; name the set for both with --on, such as "
                "`--on background=unbiased`, or evaluate them apart."
            )
    return data if limit is None or limit >= len(data) else data.subset(list(range(limit)))


def _facts(folder: Path) -> dict[str, object]:
    directory = RunDirectory(folder)
    environment = json.loads(directory.environment.read_text()) if directory.environment.exists() else {}
    packages = environment.pop("packages", {})
    return {**environment, **packages, "configuration": directory.config.read_text()}


def _progress() -> Progress:
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=False)
