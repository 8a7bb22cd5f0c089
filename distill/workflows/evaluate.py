"""`evaluate`: compare finished runs and networks; write a record, per-image scores, pictures and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from distill.checksums import hash_file
from distill.data import ImageSet, as_image_set
from distill.errors import InputError, warn_input
from distill.evaluation import (
    EvaluationResult,
    EvaluationSettings,
    MapSettings,
    Progress,
    make_gallery,
    save_scores,
)
from distill.evaluation import evaluate as evaluate_networks
from distill.evaluation.settings import as_settings
from distill.files import expand_home, locked
from distill.malloc import keep_freed_memory
from distill.models import file_hash
from distill.report import (
    Curves,
    EvaluationRecord,
    Gallery,
    markdown_tables,
    save_grid,
    save_record,
    save_table,
    write_report,
)
from distill.training import RunDirectory
from distill.training.csv_log import read_run_curves
from distill.workflows.compared_runs import LoadedRuns, Source, common_parent, load_runs, trust_in_runs
from distill.workflows.compared_sets import load_test_sets

#: Number of pictures in all galleries together, and in maps.png.
GALLERY_IMAGES, GRID_IMAGES = 48, 8
SCORES_NAME = "per_image.parquet"


class Evaluation(NamedTuple):
    """The result of an evaluation.

    Args:
        record: All metrics, as in evaluation.json.
        report: Path of the HTML report, or None if no files were written.
    """

    record: EvaluationRecord
    report: Path | None

    @property
    def table(self) -> str:
        """All metrics as Markdown tables, one per test set. Notebooks display them."""
        return markdown_tables(self.record)

    def _repr_markdown_(self) -> str:
        return self.table


def evaluate(
    *runs: Source | Mapping[str, Source],
    reference: Source | None = None,
    ceiling: Source | None = None,
    data: Any = None,
    on: str | Sequence[str] = (),
    split: str = "test",
    maps: MapSettings | Mapping[str, Any] | None = None,
    settings: EvaluationSettings | Mapping[str, Any] | None = None,
    network: nn.Module | str | None = None,
    trust: bool = False,
    limit: int | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    gallery: int = GALLERY_IMAGES,
    output: Path | str | None = None,
    title: str = "Evaluation",
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate runs on their test split, and write the record, scores, table, pictures and report.

    Args:
        runs: Run directories (``"CE + KD=runs/kd"`` sets a label), finished runs, networks of
            :func:`distill.create_model`, or mappings from labels to these.
        reference: The teacher. The predictions and maps of the other networks are compared with it.
        ceiling: The teacher trained with another seed. Its agreement with the reference is the highest that can be
            expected of a student.
        data: A data set of (image, label), or a mapping from names to such data sets. Default: the test split of the
            runs. Runs that :func:`distill.train` returned and that were trained on data sets passed as objects have no
            test split: their validation images are used, with a warning.
        on: Test sets, each ``key=value[,key=value]`` of the data section. Default: the test split of the runs.
        split: ``test`` or ``validation``.
        maps: Settings of the maps: ``distill.evaluation.MapSettings``, or a mapping of its fields, such as
            ``{"layer": "group2"}``.
        settings: Metrics to compute, and the number of images for each: ``distill.evaluation.EvaluationSettings``, or a
            mapping of its fields, such as ``{"sanity": 0}``.
        network: For runs whose student was passed as an object: a network with its architecture, or
            ``package.module:callable`` that builds one. For runs whose student is ``package.module:callable``: this
            name.
        trust: Whether the files of the runs may name any code to import.
        limit: Use only the first ``limit`` images of each test set.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch_size: Images per batch. Default: chosen from the image size.
        gallery: Number of pictures in the report, over all test sets; 0 for none.
        output: Output folder. Default: the run directory, or the common parent of several. If there is no run
            directory, no files are written.
        title: Title of the report.
        progress: See :func:`distill.evaluation.evaluate`.

    Returns:
        The record and the path of the report; ``.table`` is the record as Markdown.

    Raises:
        InputError: if a key of ``maps`` or ``settings`` is unknown, or if runs are missing or unfinished, name code to
            import that is not trusted, or have different classes or test images. The message lists all problems.
            Also if another process writes to the output folder.

    Example:
        >>> import distill
        >>> from distill.data import FashionScenes
        >>> networks = {name: distill.create_model("wrn_10_1", num_classes=10) for name in ("student", "teacher")}
        >>> scenes = FashionScenes("test", count=20)
        >>> done = distill.evaluate(
        ...     {"student": networks["student"]},
        ...     reference=networks["teacher"],
        ...     data=scenes,
        ...     settings={"perturbed": 0, "explained": 0, "sanity": 0},
        ... )
        >>> done.record["sets"]["test"]["n"], done.report
        (20, None)
    """
    keep_freed_memory()
    chosen_device = _device(device)
    maps = as_settings(maps, MapSettings, argument="maps")
    settings = as_settings(settings, EvaluationSettings, argument="settings")
    loaded = load_runs(runs, reference=reference, ceiling=ceiling, network=network, trust=trust)
    given = data is not None and not isinstance(data, str)
    if given and on:
        raise InputError(
            "`data` and `on` exclude each other: `on` changes keys of the runs' data section. Give one of them."
        )
    problems: list[str] = []
    if given:
        sets = _sets_from_objects(data, loaded, split=split, limit=limit)
    elif loaded.configs or loaded.problems:
        changes = (on,) if isinstance(on, str) else on
        if split == "test" and not changes and loaded.validation and loaded.validation.keys() == loaded.configs.keys():
            split = "validation"
            warn_input(
                "the runs have no test split, because their data sets were passed as objects: the validation images "
                "are used, on which the weights were selected. Pass a test set as `data`."
            )
        held = loaded.validation if split == "validation" and not changes else {}
        sets, problems = load_test_sets(
            loaded.with_test_set,
            changes,
            split=split,
            limit=limit,
            held=held,
            trust=trust_in_runs(runs, named=(network, data), trust=trust),
            folders=loaded.folders,
        )
    else:
        raise InputError("`data`: networks without a run directory have no test split. Pass a data set as `data`.")
    if loaded.problems or problems:
        raise InputError("\n".join([*loaded.problems, *problems]))
    folder_of_results = _output_folder(output, runs, loaded)
    with nullcontext() if folder_of_results is None else locked(folder_of_results, doing="evaluating"):
        folders = {} if folder_of_results is None else loaded.folders
        curves = [read_run_curves(path, run=name) for name, path in folders.items()]
        done = evaluate_networks(
            loaded.networks,
            reference=loaded.reference,
            ceiling=loaded.ceiling,
            sets=sets,
            maps=maps,
            settings=settings,
            split=split,
            batch_size=batch_size,
            device=chosen_device,
            progress=progress,
        )
        for name, folder in loaded.folders.items():
            done.record["networks"][name] |= {
                "run": str(folder),
                "seed": loaded.configs[name].seed,
                "weights": file_hash(folder),
            }
        if folder_of_results is None:
            return Evaluation(done.record, None)
        count = max(gallery // len(sets), 1) if gallery else 0
        seed = (settings or EvaluationSettings()).seed
        galleries = [
            make_gallery(
                loaded.networks,
                reference=loaded.reference,
                set_name=name,
                data=images,
                scores=done.scores[name],
                count=count,
                seed=seed,
                maps=maps,
                batch_size=batch_size,
                device=chosen_device,
            )
            for name, images in sets.items()
            if count
        ]
        return Evaluation(done.record, _write(folder_of_results, title, done, galleries, curves, loaded))


def _sets_from_objects(data: Any, loaded: LoadedRuns, *, split: str, limit: int | None) -> dict[str, ImageSet]:
    """Read test sets that were passed as objects. Without class names, the networks' class names are used."""
    classes = next((net.spec.classes for net in loaded.networks.values() if net.spec.classes), None)
    sets = {}
    for name, one in (data if isinstance(data, Mapping) else {split: data}).items():
        images = as_image_set(one, classes=getattr(one, "classes", classes), name=f"data {name!r}")
        sets[str(name)] = images if limit is None or limit >= len(images) else images.subset(list(range(limit)))
    return sets


def _output_folder(output: Path | str | None, runs: Sequence[object], loaded: LoadedRuns) -> Path | None:
    if output is not None:
        return Path(expand_home(output))
    if not loaded.folders:
        return None
    others = [path for name, path in loaded.folders.items() if name not in (loaded.reference, loaded.ceiling)]
    single = len(runs) == 1 and not isinstance(runs[0], Mapping) and len(others) == 1
    return others[0] if single else common_parent(loaded.folders.values())


def _write(
    folder: Path,
    title: str,
    done: EvaluationResult,
    galleries: Sequence[Gallery],
    curves: Sequence[Curves],
    loaded: LoadedRuns,
) -> Path:
    scores = save_scores(done.scores, done.record["classes"], folder / SCORES_NAME)
    done.record["scores"] = hash_file(scores)
    save_record(done.record, folder / "evaluation.json")
    save_table(done.record, folder / "table.md")
    if galleries:
        save_grid(_grid(galleries[-1]), folder / "maps.png")
    return write_report(
        folder / "report.html",
        title=title,
        record=done.record,
        curves=curves,
        galleries=galleries,
        facts={name: RunDirectory(path).facts() for name, path in loaded.folders.items()},
    )


def _grid(gallery: Gallery) -> Gallery:
    """Keep only the randomly chosen pictures, so that maps.png shows typical images."""
    drawn = [picture for picture in gallery.pictures if "random" in picture.picks]
    return replace(gallery, pictures=tuple(drawn[:GRID_IMAGES]))


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA device. Use `auto` or `cpu`.")
    return name
