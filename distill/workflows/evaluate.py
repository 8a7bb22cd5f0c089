"""`evaluate`: finished runs -> a record, per-image scores, pictures and a page, side by side."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from distill.build import load_config, load_images
from distill.config import Config
from distill.data import ImageSet, same_images
from distill.errors import InputError
from distill.evaluation import (
    EvaluationResult,
    EvaluationSettings,
    MapSettings,
    Progress,
    differing_classes,
    evaluate,
    make_gallery,
    save_scores,
)
from distill.models import StagedNetwork, file_hash, load_model
from distill.models.weights import WEIGHTS_NAME
from distill.report import (
    EvaluationRecord,
    Gallery,
    read_curves,
    save_grid,
    save_record,
    save_table,
    write_report,
)
from distill.training import RunDirectory


class LoadedRuns(NamedTuple):
    """Finished runs by name: the reference, the ceiling, then the others in their order.

    Args:
        folders: Where they lie.
        configs: What they were made from.
        networks: What came out.
        reference: Name of the teacher's.
        ceiling: Name of the teacher's second training.
        problems: Why some could not be read, or do not go together.
    """

    folders: dict[str, Path]
    configs: dict[str, Config]
    networks: dict[str, StagedNetwork]
    reference: str | None
    ceiling: str | None
    problems: list[str]


def load_runs(runs: Sequence[str], *, reference: str | None, ceiling: str | None) -> LoadedRuns:
    """Read finished runs, and collect what is wrong with any of them.

    Args:
        runs: Run directories, each with a label before it if it likes: ``CE + KD=runs/kd``.
        reference: The teacher's.
        ceiling: That of a second training of the teacher.

    Raises:
        InputError: if two runs have one name, or a ceiling has no reference.
    """
    if ceiling is not None and reference is None:
        raise InputError("--ceiling is a second training of the reference; name the first one with --reference.")
    special = [text for text in (reference, ceiling) if text is not None]
    folders = _name_runs([*special, *runs])
    names = list(folders)
    configs: dict[str, Config] = {}
    networks: dict[str, StagedNetwork] = {}
    problems: list[str] = []
    for name, folder in folders.items():
        try:
            configs[name] = load_config([_recorded(folder)])
            networks[name] = _load(folder, configs[name])
        except InputError as error:
            problems.append(str(error))
    return LoadedRuns(
        folders,
        configs,
        networks,
        names[0] if reference else None,
        names[1] if ceiling else None,
        problems + differing_classes(networks),
    )


def common_parent(folders: Iterable[Path]) -> Path:
    """Give the folder that all lie in."""
    return Path(os.path.commonpath([folder.resolve().parent for folder in folders]))


def split_label(text: str) -> tuple[str, Path]:
    """Read ``LABEL=RUN``; a path that is there may hold a `=` itself."""
    label, mark, path = text.partition("=")
    return (label, Path(path)) if mark and not Path(text).exists() else ("", Path(text))


def _name_runs(given: Sequence[str]) -> dict[str, Path]:
    """Name runs; one without a label has its path below what all runs share."""
    pairs = [split_label(text) for text in given]
    shared = common_parent([path for _, path in pairs])
    folders: dict[str, Path] = {}
    for label, path in pairs:
        name = label or str(path.resolve().relative_to(shared))
        if folders.setdefault(name, path) != path:
            raise InputError(f"two runs are called {name!r}: {folders[name]} and {path}; label one, LABEL=RUN.")
    return folders


def _recorded(folder: Path) -> Path:
    if not folder.exists():
        raise InputError(f"there is no run directory at {folder}; train one with `distill train`, or mend the path.")
    recorded = RunDirectory(folder).config
    if not recorded.exists():
        raise InputError(f"{folder} is not a run directory: it has no {recorded.name}.")
    return recorded


def _load(folder: Path, config: Config) -> StagedNetwork:
    directory = RunDirectory(folder)
    if not (folder / WEIGHTS_NAME).exists() and directory.environment.exists():
        raise InputError(
            f"{folder} is still training ({_progress(directory, config)}), or was cut off; wait for it, or let "
            "`distill train` with the same configuration go on."
        )
    return load_model(folder)


def _progress(directory: RunDirectory, config: Config) -> str:
    if not directory.last.exists():
        return f"no epoch of {config.max_epochs} is done"
    state = torch.load(directory.last, map_location="cpu", weights_only=True, mmap=True)
    return f"epoch {int(state['epoch']) + 1} of {config.max_epochs} was the last that was saved"


class TestSets(NamedTuple):
    """Test sets by name, and what was wrong with some."""

    sets: dict[str, ImageSet]
    problems: list[str]


def load_test_sets(configs: Mapping[str, Config], on: Sequence[str], *, split: str, limit: int | None) -> TestSets:
    """Load test sets, and see that each is the same for all runs.

    Args:
        configs: Of the runs, by name.
        on: Test sets, each ``key=value[,key=value]`` of the data section; the runs' own if there are none.
        split: ``test`` or ``validation``.
        limit: Keep only the first images of each.

    Raises:
        InputError: if a test set cannot be read as such pairs.
    """
    sets: dict[str, ImageSet] = {}
    problems: dict[str, None] = {}
    for name, changes in _changes(on, split).items():
        found: dict[str, tuple[str, ImageSet]] = {}
        for run, config in configs.items():
            section = config.data
            key = json.dumps([section.name, section.seed, {**section.options, **changes}], sort_keys=True, default=str)
            if key not in found:
                try:
                    found[key] = (run, load_images(section, split, **changes))
                except InputError as error:
                    problems[str(error)] = None
        problems |= dict.fromkeys(_differences(list(found.values()), split))
        for _, data in list(found.values())[:1]:
            sets[name] = data if limit is None or limit >= len(data) else data.subset(list(range(limit)))
    return TestSets(sets, list(problems))


def _changes(on: Sequence[str], split: str) -> dict[str, dict[str, Any]]:
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
    return sets or {split: {}}


def _differences(found: Sequence[tuple[str, ImageSet]], split: str) -> list[str]:
    if not found:
        return []
    (first, data), *others = found
    problems = []
    for other, theirs in others:
        same = len(data) == len(theirs) and data.images.shape == theirs.images.shape
        if data.classes != theirs.classes or not same or not same_images(data.images, theirs.images):
            problems.append(
                f"runs {first!r} and {other!r} have different {split} images; name the set for both with --on, such "
                "as `--on background=unbiased`, or evaluate them apart."
            )
    return problems


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
    extent: EvaluationSettings | None = None,
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
    given = load_runs(runs, reference=reference, ceiling=ceiling)
    sets, problems = load_test_sets(given.configs, on, split=split, limit=limit)
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
    seed = (extent or EvaluationSettings()).seed
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
    folder = output or (split_label(runs[0])[1] if len(runs) == 1 else common_parent(given.folders.values()))
    return Evaluation(done.record, _write(folder, title, done, galleries, given))


def _write(folder: Path, title: str, done: EvaluationResult, galleries: Sequence[Gallery], given: LoadedRuns) -> Path:
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
