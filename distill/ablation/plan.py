"""Plan an ablation: from the ablation file to all its trials, with all errors reported at once."""

from __future__ import annotations

import json
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
from distill.build import resolve_methods, trust_in
from distill.build.named_weights import has_library_weights, named_weights
from distill.config import (
    Config,
    format_mistakes,
    identity,
    is_weights_path,
    merge,
    replace_augment,
    validate,
)
from distill.config.dotted_keys import look_up, merge_values, nested
from distill.data import fingerprint
from distill.data.image_listing import FINGERPRINTED
from distill.errors import InputError
from distill.files import expand_home
from distill.models import file_hash
from distill.untrusted import Trust

#: Larger ablations are rejected even with --yes.
HARD_LIMIT = 100_000
Check = Callable[[Mapping[str, Any]], Iterable[str]]


@dataclass(frozen=True)
class Trial:
    """One row with one seed.

    Args:
        row: Name of the row.
        seed: The seed.
        settings: Changes to the base by dotted key, and the value of each axis.
        config: Configuration of the run.
        identity: Hash of what the run computes; known before the ablation's teacher is trained.
    """

    row: str
    seed: int
    settings: Settings
    config: Config
    identity: str


@dataclass(frozen=True)
class Ablation:
    """A planned ablation.

    Args:
        file: The ablation file.
        rows: Names of the rows, in the order of the file.
        trials: Each row with each seed; all rows of the first seed come first.
        teacher: Configuration of the teacher that the ablation trains, or None.
        results: Folders of results.
        trust: Whether the files of a teacher may name any code to import.
    """

    file: AblationFile
    rows: tuple[str, ...]
    trials: tuple[Trial, ...]
    teacher: Config | None
    results: Results
    trust: bool = False

    @property
    def folder(self) -> Path:
        """Folder of the ablation."""
        return Path(self.file.output_dir) / self.file.name

    @property
    def trusted(self) -> Trust:
        """Names of code that the ablation file and its base name, which may be imported from files of its runs."""
        return trust_in(self.teacher, *(trial.config for trial in self.trials), also=self.trust)

    @property
    def measured(self) -> dict[str, Any]:
        """Evaluation settings: test sets and maps."""
        return {"test_sets": self.file.test_sets, "maps": self.file.maps.model_dump()}


def plan_ablation(
    path: Path | str,
    pairs: Sequence[str] = (),
    *,
    check: Check | None = None,
    yes: bool = True,
    trust: bool = False,
) -> Ablation:
    """Read an ablation file, and return its trials.

    Args:
        path: The ablation file; paths in it are relative to its folder.
        pairs: Overrides of keys of the file, as ``key.path=value``.
        check: Additional check of the merged values of a run, which returns error messages.
        yes: Whether to allow more runs than the file's ``max_runs``.
        trust: Whether the files of a teacher may name any code to import.

    Raises:
        InputError: with all errors, one per line; or if there are too many runs.
    """
    path = Path(expand_home(path))
    file = read_ablation_file(path, pairs)
    if file.max_possible_runs > HARD_LIMIT or (not file.exclude and not yes):
        _check_size(file.max_possible_runs, file, path, limit=HARD_LIMIT if yes else file.max_runs)
    teacher, errors = _plan_teacher(file, path.parent, check, trust)
    rows, merged = _merge_rows(file, path.parent, teacher)
    configs, row_errors = _validate(rows, merged, file, check)
    if not errors and not row_errors:
        configs = [resolve_methods(config, trust=trust, trained=teacher) for config in configs]
    errors += row_errors
    with_teacher = any(config.teacher is not None for config in configs) or bool(row_errors)
    identities: list[str] = []
    if not errors:
        try:
            identities = [_identity(config, teacher) for config in configs]
        except InputError as error:
            errors.append(str(error))
    kept, duplicates = _remove_duplicates(rows, identities)
    names = [rows[i].name for i in kept]
    errors += [*duplicates, *check_file(file, names, with_teacher=with_teacher)]
    errors += [f"exclude: {rule} matches no combination; remove or correct it" for rule in unused_exclusions(file)]
    missing = [folder for folder in file.results if not (path.parent / folder).is_dir()]
    errors += [f"results: no folder {path.parent / folder}" for folder in missing]
    if errors:
        raise InputError(format_mistakes(errors, str(path)))
    folders = folder_names(names)
    trials = [
        _make_trial(rows[i], seed, configs[i], merged[i], folders[rows[i].name], file, teacher)
        for seed in file.seeds
        for i in kept
    ]
    if not yes:
        _check_size(len(trials), file, path, limit=file.max_runs)
    results = Results([Path(file.output_dir) / RESULTS, *(path.parent / folder for folder in file.results)])
    return Ablation(file, tuple(names), tuple(trials), teacher, results, trust)


def _check_size(runs: int, file: AblationFile, path: Path, *, limit: int) -> None:
    if runs > limit:
        name = f"the limit of {limit:,}" if limit == HARD_LIMIT else f"max_runs={limit}"
        advice = "Remove rows or seeds" if limit == HARD_LIMIT else "Remove rows or seeds, or allow it with --yes"
        raise InputError(
            f"{path} has {runs:,} runs ({runs // len(file.seeds):,} rows x {len(file.seeds):,} seeds), more than "
            f"{name}. {advice}."
        )


def _merge_rows(file: AblationFile, folder: Path, teacher: Config | None) -> tuple[list[GridRow], list[dict[str, Any]]]:
    """Return the rows, and the merged configuration values of each."""
    common = merge_values(merge([folder / base for base in file.base]), replace_augment(nested(file.overrides)))
    if file.teacher is not None:
        checkpoint = teacher.directory if teacher else TEACHERS
        common = merge_values(common, {"teacher": {"checkpoint": str(checkpoint)}})
    rows = grid_rows(file)
    return rows, [_merge_row(common, row, file) for row in rows]


def _validate(
    rows: Sequence[GridRow], merged: Sequence[Mapping[str, Any]], file: AblationFile, check: Check | None
) -> tuple[list[Config], list[str]]:
    """Return the configurations of the rows, and the errors; an error of several rows is reported once."""
    configs: list[Config] = []
    rows_by_error: dict[str, list[str]] = {}
    for row, values in zip(rows, merged, strict=True):
        config, errors = validate(values, check=check)
        if config is not None:
            configs.append(config)
            errors = list(check_run(config, row.settings, file))
        for error in errors:
            rows_by_error.setdefault(error, []).append(row.name)
    return configs, [_add_rows(error, names, len(rows)) for error, names in rows_by_error.items()]


def _plan_teacher(
    file: AblationFile, folder: Path, check: Check | None, trust: bool
) -> tuple[Config | None, list[str]]:
    """Return the teacher's configuration and its errors; its folder is shared, and its name ends with its identity."""
    if file.teacher is None:
        return None, []
    overrides = replace_augment(nested(file.teacher.overrides))
    values = merge_values(merge([folder / base for base in file.teacher.base]), overrides)
    config, errors = validate({**values, "output_dir": str(Path(file.output_dir) / TEACHERS)}, check=check)
    if config is None:
        return None, [f"teacher: {error}" for error in errors]
    config = resolve_methods(config, trust=trust)
    run_identity = _identity_with(config, _teacher_hash(config))
    named = config.model_copy(update={"name": f"{config.name}-{run_identity}"})
    return named, [f"teacher: {error}" for error in check_teacher(config)]


def _merge_row(common: Mapping[str, Any], row: GridRow, file: AblationFile) -> dict[str, Any]:
    values: Any = common
    for layer in row.overrides:
        values = merge_values(values, replace_augment(layer))
    reserved = {"name": "run", "output_dir": str(Path(file.output_dir) / file.name / "runs"), "seed": file.seeds[0]}
    section = values.get("teacher")
    if isinstance(section, Mapping) and not section.get("cache_dir"):
        values = {**values, "teacher": {**section, "cache_dir": str(Path(file.output_dir) / CACHE)}}
    return {**values, **reserved}


def _identity(config: Config, trained: Config | None) -> str:
    if trained is not None and config.teacher is not None and config.teacher.checkpoint == str(trained.directory):
        return _identity_with(config, f"trained:{trained.name.rpartition('-')[2]}")
    return _identity_with(config, _teacher_hash(config))


def _teacher_hash(config: Config) -> str | None:
    if config.teacher is None:
        return None
    if config.teacher.checkpoint is None:
        return named_weights(config.teacher)
    return _weights_hash("teacher.checkpoint", config.teacher.checkpoint)


def _identity_with(config: Config, teacher_hash: str | None) -> str:
    """Return the identity of a run; hashes of files that many rows share are computed once."""
    student = config.student
    if is_weights_path(student.weights):
        weights_hash: str | None = _weights_hash("student.weights", str(student.weights))
    else:
        weights_hash = named_weights(student) if has_library_weights(student) else None
    return identity(config, teacher_hash=teacher_hash, data_hash=_data_hash(config), weights_hash=weights_hash)


def _data_hash(config: Config) -> str | None:
    options = {key: value for key, value in config.data.options.items() if key in FINGERPRINTED}
    return _fingerprint(config.data.name, json.dumps(options, sort_keys=True, default=str))


@cache
def _fingerprint(name: str, options: str) -> str | None:
    return fingerprint(name, json.loads(options))


@cache
def _weights_hash(key: str, path: str) -> str:
    try:
        return file_hash(path)
    except InputError as error:
        raise InputError(f"{key}: {error}") from error


def _remove_duplicates(rows: Sequence[GridRow], identities: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return the indices of the rows to keep, and an error for each duplicate.

    A one-factor-at-a-time row whose value is the default is left out without an error.
    """
    if not identities:
        return list(range(len(rows))), []
    first: dict[str, int] = {}
    kept, duplicates = [], []
    for i, (row, run_identity) in enumerate(zip(rows, identities, strict=True)):
        original = rows[first.setdefault(run_identity, i)]
        if original is row:
            kept.append(i)
        elif not (row.one_factor and row.row == original.row and not original.one_factor):
            duplicates.append(f"rows: {original.name!r} and {row.name!r} have the same configuration; remove one")
            kept.append(i)
    return kept, duplicates


def _make_trial(
    row: GridRow,
    seed: int,
    config: Config,
    merged: Mapping[str, Any],
    folder: str,
    file: AblationFile,
    teacher: Config | None,
) -> Trial:
    seeded = config.model_copy(update={"seed": seed, "name": f"{folder}-seed{seed}"})
    defaults = config.model_dump(mode="json")
    axes = {key: look_up(merged, key, look_up(defaults, key)) for key in file.grid_axes}
    return Trial(row.name, seed, {**row.settings, **axes}, seeded, _identity(seeded, teacher))


def _add_rows(error: str, rows: Sequence[str], total: int) -> str:
    """Append the names of the rows that have an error, unless all rows have it."""
    if len(rows) == total:
        return error
    shown = ", ".join(repr(row) for row in rows[:3]) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
    return f"{error} (in {shown})"
