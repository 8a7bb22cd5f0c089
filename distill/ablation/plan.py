"""Plan an ablation: the file -> every run it asks for, with all mistakes reported at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from distill.ablation.checks import check_file, check_run, check_teacher
from distill.ablation.file import (
    CACHE,
    RESULTS,
    TEACHERS,
    AblationFile,
    read_ablation_file,
)
from distill.ablation.grid import GridRow, Settings, folder_names, grid_rows, unused_exclusions
from distill.ablation.results import Results
from distill.config import (
    Config,
    format_mistakes,
    identity,
    merge,
    validate,
)
from distill.config.dotted_keys import look_up, merge_values, nested
from distill.data import fingerprint
from distill.errors import InputError
from distill.models import file_hash

#: No ablation of so many runs is meant.
HARD_LIMIT = 100_000
Check = Callable[[Mapping[str, Any]], Iterable[str]]


@dataclass(frozen=True)
class Trial:
    """One row under one seed.

    Args:
        row: Name of the row.
        seed: The seed.
        settings: In what it differs, by dotted key, and the value of every axis.
        config: The run.
        identity: Of what it computes; known before a teacher that is trained along is there.
    """

    row: str
    seed: int
    settings: Settings
    config: Config
    identity: str


@dataclass(frozen=True)
class Ablation:
    """What an ablation file asks for.

    Args:
        file: The file.
        rows: Names of the rows, in its order.
        trials: Every row under every seed, seed by seed.
        teacher: The run of a teacher that is trained once, if there is one.
        results: Where results are kept and looked for.
    """

    file: AblationFile
    rows: tuple[str, ...]
    trials: tuple[Trial, ...]
    teacher: Config | None
    results: Results

    @property
    def folder(self) -> Path:
        """Where it all lies."""
        return Path(self.file.output_dir) / self.file.name

    @property
    def measured(self) -> dict[str, Any]:
        """How runs are evaluated."""
        return {"test_sets": self.file.test_sets, "maps": self.file.maps.model_dump()}


def plan_ablation(
    path: Path | str, pairs: Sequence[str] = (), *, check: Check | None = None, yes: bool = True
) -> Ablation:
    """Read an ablation file and every run that it asks for.

    Args:
        path: The file; the paths in it are relative to it.
        pairs: ``key.path=value`` of the file's own keys, merged last.
        check: More checks of a run's merged values.
        yes: Whether there may be more runs than the file's ``max_runs``.

    Raises:
        InputError: with every mistake, a line each; or if there are too many runs.
    """
    path = Path(path)
    file = read_ablation_file(path, pairs)
    if file.most_runs > HARD_LIMIT or (not file.exclude and not yes):
        _check_size(file.most_runs, file, path, most=HARD_LIMIT if yes else file.max_runs)
    teacher, mistakes = _teacher(file, path.parent, check)
    rows, merged = _rows(file, path.parent, teacher)
    configs, wrong = _validate(rows, merged, file, check)
    mistakes += wrong
    taught = any(config.teacher is not None for config in configs) or bool(wrong)
    identities: list[str] = []
    if not mistakes:
        try:
            identities = [_identity(config, teacher) for config in configs]
        except InputError as error:
            mistakes.append(str(error))
    kept, twice = _distinct(rows, identities)
    names = [rows[i].name for i in kept]
    mistakes += [*twice, *check_file(file, names, with_teacher=taught)]
    mistakes += [f"exclude: {rule} leaves nothing out" for rule in unused_exclusions(file)]
    missing = [folder for folder in file.results if not (path.parent / folder).is_dir()]
    mistakes += [f"results: there is no folder {path.parent / folder}" for folder in missing]
    if mistakes:
        raise InputError(format_mistakes(mistakes, str(path)))
    folders = folder_names(names)
    trials = [
        _trial(rows[i], seed, configs[i], merged[i], folders[rows[i].name], file, teacher)
        for seed in file.seeds
        for i in kept
    ]
    if not yes:
        _check_size(len(trials), file, path, most=file.max_runs)
    results = Results([Path(file.output_dir) / RESULTS, *(path.parent / folder for folder in file.results)])
    return Ablation(file, tuple(names), tuple(trials), teacher, results)


def _check_size(runs: int, file: AblationFile, path: Path, *, most: int) -> None:
    if runs > most:
        way = "leave some out" if most == HARD_LIMIT else "leave some out, or say --yes"
        limit = f"{most:,} at most" if most == HARD_LIMIT else f"max_runs={most}"
        raise InputError(
            f"{path} asks for {runs:,} runs ({runs // len(file.seeds):,} rows under {len(file.seeds):,} seeds), more "
            f"than {limit}; {way}."
        )


def _rows(file: AblationFile, folder: Path, teacher: Config | None) -> tuple[list[GridRow], list[dict[str, Any]]]:
    common = merge_values(merge([folder / base for base in file.base]), nested(file.overrides))
    if file.teacher is not None:
        place = teacher.directory if teacher else TEACHERS
        common = merge_values(common, {"teacher": {"checkpoint": str(place)}})
    rows = grid_rows(file)
    return rows, [_merged(common, cell, file) for cell in rows]


def _validate(
    rows: Sequence[GridRow], merged: Sequence[Mapping[str, Any]], file: AblationFile, check: Check | None
) -> tuple[list[Config], list[str]]:
    """Load every row's run; a mistake is told once, with the rows that have it."""
    configs: list[Config] = []
    wrong: dict[str, list[str]] = {}
    for cell, values in zip(rows, merged, strict=True):
        config, problems = validate(values, check=check)
        if config is not None:
            configs.append(config)
            problems = list(check_run(config, cell.settings, file))
        for problem in problems:
            wrong.setdefault(problem, []).append(cell.name)
    return configs, [_where(problem, names, len(rows)) for problem, names in wrong.items()]


def _teacher(file: AblationFile, folder: Path, check: Check | None) -> tuple[Config | None, list[str]]:
    """Load the teacher's run; it lies where all ablations find it, under a name that ends with its identity."""
    if file.teacher is None:
        return None, []
    values = merge_values(merge([folder / base for base in file.teacher.base]), nested(file.teacher.overrides))
    config, mistakes = validate({**values, "output_dir": str(Path(file.output_dir) / TEACHERS)}, check=check)
    if config is None:
        return None, [f"teacher: {problem}" for problem in mistakes]
    own = file_hash(config.teacher.checkpoint) if config.teacher else None
    known = identity(config, teacher_hash=own, data_hash=_data_hash(config))
    named = config.model_copy(update={"name": f"{config.name}-{known}"})
    return named, [f"teacher: {problem}" for problem in check_teacher(config)]


def _merged(common: Mapping[str, Any], cell: GridRow, file: AblationFile) -> dict[str, Any]:
    values: Any = common
    for layer in cell.differences:
        values = merge_values(values, layer)
    ours = {"name": "run", "output_dir": str(Path(file.output_dir) / file.name / "runs"), "seed": file.seeds[0]}
    section = values.get("teacher")
    if isinstance(section, Mapping) and not section.get("cache_dir"):
        values = {**values, "teacher": {**section, "cache_dir": str(Path(file.output_dir) / CACHE)}}
    return {**values, **ours}


def _identity(config: Config, trained: Config | None) -> str:
    if config.teacher is None:
        teacher = None
    elif trained is not None and config.teacher.checkpoint == str(trained.directory):
        teacher = f"trained:{trained.name.rpartition('-')[2]}"
    else:
        teacher = _hash(config.teacher.checkpoint)
    return identity(config, teacher_hash=teacher, data_hash=_data_hash(config))


def _data_hash(config: Config) -> str | None:
    return _fingerprint(config.data.name, config.data.options.get("root"))


@cache
def _fingerprint(name: str, root: Any) -> str | None:
    return fingerprint(name, {"root": root})


@cache
def _hash(checkpoint: str) -> str:
    try:
        return file_hash(checkpoint)
    except InputError as error:
        raise InputError(f"teacher.checkpoint: {error}") from error


def _distinct(rows: Sequence[GridRow], identities: Sequence[str]) -> tuple[list[int], list[str]]:
    """Leave out a factor's value that is the default; name other rows that are the same run."""
    if not identities:
        return list(range(len(rows))), []
    first: dict[str, int] = {}
    kept, twice = [], []
    for i, (cell, own) in enumerate(zip(rows, identities, strict=True)):
        known = first.setdefault(own, i)
        if known == i:
            kept.append(i)
        elif not (cell.departs and cell.row == rows[known].row and not rows[known].departs):
            twice.append(f"rows: {rows[known].name!r} and {cell.name!r} are the same run")
            kept.append(i)
    return kept, twice


def _trial(
    cell: GridRow,
    seed: int,
    config: Config,
    merged: Mapping[str, Any],
    folder: str,
    file: AblationFile,
    teacher: Config | None,
) -> Trial:
    own = config.model_copy(update={"seed": seed, "name": f"{folder}-seed{seed}"})
    plain = config.model_dump(mode="json")
    axes = {key: look_up(merged, key, look_up(plain, key)) for key in file.grid_axes}
    return Trial(cell.name, seed, {**cell.settings, **axes}, own, _identity(own, teacher))


def _where(problem: str, rows: Sequence[str], total: int) -> str:
    if len(rows) == total:
        return problem
    shown = ", ".join(repr(row) for row in rows[:3]) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
    return f"{problem} (in {shown})"
