"""Finished runs -> a record, scores, pictures and a page, side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from distill.errors import InputError
from distill.evaluation import Evaluated, Extent, MapSettings, Progress, evaluate, make_gallery, save_scores
from distill.evaluations.given import Given, parent, read_given, split_label
from distill.evaluations.sets import read_sets
from distill.models import file_hash
from distill.report import EvaluationRecord, Gallery, read_curves, save_grid, save_record, save_table, write_report
from distill.training import RunDirectory

#: Pictures of all galleries together, and of the grid that is saved as one file.
GALLERY_IMAGES, GRID_IMAGES = 48, 8


class Evaluation(NamedTuple):
    """What was measured, and where it was written."""

    record: EvaluationRecord
    report: Path


def evaluate_runs(
    runs: Sequence[str],
    *,
    reference: str | None = None,
    ceiling: str | None = None,
    on: Sequence[str] = (),
    split: str = "test",
    maps: MapSettings | None = None,
    extent: Extent | None = None,
    limit: int | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    gallery: int = GALLERY_IMAGES,
    output: Path | None = None,
    title: str = "Evaluation",
    progress: Progress | None = None,
) -> Evaluation:
    """Measure runs on their test split, and write record, scores, table, pictures and page.

    Args:
        runs: Run directories, each with a label before it if it likes: ``CE + KD=runs/kd``.
        reference: The teacher's; the others are compared with it.
        ceiling: That of a second training of the teacher: its agreement with the reference is what can be asked for.
        on: Test sets, each ``key=value[,key=value]`` of the data section; the runs' own if there are none.
        split: ``test`` or ``validation``.
        maps: How networks are explained.
        extent: What is measured beyond one pass.
        limit: Use only the first images of each test set.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch_size: Images at a time; chosen by their size if left out.
        gallery: Pictures, shared out over the test sets; 0: none.
        output: Folder; the run's own, or the parent of several.
        title: Headline of the page.
        progress: See :func:`distill.evaluation.evaluate`.

    Raises:
        InputError: with all problems together, if runs are missing or unfinished, or differ in classes or test images.
    """
    place = _device(device)
    given = read_given(runs, reference=reference, ceiling=ceiling)
    sets, problems = read_sets(given.configs, on, split=split, limit=limit)
    if given.problems or problems:
        raise InputError("\n".join([*given.problems, *problems]))
    done = evaluate(
        given.networks,
        reference=given.reference,
        ceiling=given.ceiling,
        sets=sets,
        maps=maps,
        extent=extent,
        split=split,
        batch_size=batch_size,
        device=place,
        progress=progress,
    )
    for name, folder in given.folders.items():
        done.record["networks"][name] |= {
            "run": str(folder),
            "seed": given.configs[name].seed,
            "weights": file_hash(folder),
        }
    count = max(gallery // len(sets), 1) if gallery else 0
    seed = (extent or Extent()).seed
    galleries = [
        make_gallery(
            given.networks,
            reference=given.reference,
            set_name=name,
            data=data,
            scores=done.scores[name],
            count=count,
            seed=seed,
            maps=maps,
            batch_size=batch_size,
            device=place,
        )
        for name, data in sets.items()
        if count
    ]
    folder = output or (split_label(runs[0])[1] if len(runs) == 1 else parent(given.folders.values()))
    return Evaluation(done.record, _write(folder, title, done, galleries, given))


def _write(folder: Path, title: str, done: Evaluated, galleries: Sequence[Gallery], given: Given) -> Path:
    save_scores(done.scores, done.record["classes"], folder / "per_image.parquet")
    save_record(done.record, folder / "evaluation.json")
    save_table(done.record, folder / "table.md")
    if galleries:
        save_grid(_grid(galleries[-1]), folder / "maps.png")
    return write_report(
        folder / "report.html",
        title=title,
        record=done.record,
        curves=[read_curves(path, run=name) for name, path in given.folders.items()],
        galleries=galleries,
        facts={name: _facts(path) for name, path in given.folders.items()},
    )


def _grid(gallery: Gallery) -> Gallery:
    """Keep the pictures that chance chose, so that one file shows what is usual."""
    drawn = [picture for picture in gallery.pictures if "random" in picture.picks]
    return replace(gallery, pictures=tuple(drawn[:GRID_IMAGES]))


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA device here; take `auto` or `cpu`.")
    return name


def _facts(folder: Path) -> dict[str, object]:
    directory = RunDirectory(folder)
    environment = json.loads(directory.environment.read_text()) if directory.environment.exists() else {}
    packages = environment.pop("packages", {})
    return {**environment, **packages, "configuration": directory.config.read_text()}
