"""`AblationFile`: the typed record of an ablation file, read from YAML and `key=value` pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from distill.config import format_mistakes, merge
from distill.config.base import NotNegative, PathText, Section
from distill.config.dotted_keys import dotted, merge_values, nested
from distill.config.messages import describe_mistake
from distill.config.names import MAX_LENGTH, check_name
from distill.errors import InputError
from distill.files import expand_home

#: Sub-folders of output_dir that all its ablations share.
RESULTS, TEACHERS, CACHE = "results", "teachers", "teacher_cache"
#: Name of the row without changes in a one-factor-at-a-time grid.
DEFAULT = "default"
#: Largest number of seeds; a larger number was probably meant as a seed.
MAX_SEEDS = 1_000


def _as_list(value: Any) -> Any:
    values = [value] if isinstance(value, str) else value
    return [expand_home(one) if isinstance(one, str) else one for one in values] if isinstance(values, list) else values


def _as_seeds(value: Any) -> Any:
    if type(value) is not int or value <= 0:
        return value
    if value > MAX_SEEDS:
        raise ValueError(
            f"a number is the number of seeds, at most {MAX_SEEDS:,}, got {value:,}; for a single seed, give a list, "
            f"[{value}]"
        )
    return list(range(value))


Paths = Annotated[list[str], BeforeValidator(_as_list)]
Values = Annotated[list[Any], Field(min_length=1)]
Overrides = dict[str, Any]


class AblationTeacherSection(Section):
    """A teacher that is trained once and used by every run with a teacher."""

    base: Annotated[Paths, Field(min_length=1)]
    """YAML files of the teacher's run, relative to the ablation file; merged left to right."""
    overrides: Overrides = Field({})
    """Changes to these files."""


class MapsSection(Section):
    """How maps are computed in the evaluation."""

    method: str = "grad_cam_pp"
    """See `distill list methods`."""
    layer: str = "final"
    target: Literal["label", "teacher"] = "label"
    """The explained class: the label, or the class that the teacher predicts."""


class ExecutorSection(Section):
    """The executor of the runs."""

    name: Literal["local", "ray"] = "local"
    processes: Annotated[int, Field(ge=1)] = 2
    """Number of runs at the same time on this machine; a cluster decides by its resources."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads per run; by default the number of CPU cores divided by `processes`."""
    gpus: NotNegative | None = None
    """GPUs per run on Ray; by default 1 if there are GPUs."""
    address: str | None = None
    """Address of a Ray cluster, `auto` or host:port; by default this machine."""
    retries: Annotated[int, Field(ge=0)] = 1
    """How often a run is started again if its process was lost."""


class AblationFile(Section):
    """A grid of runs, their seeds, and the metrics that are compared.

    ``rows`` are named changes to the base. ``axes`` and ``zip`` form a grid; ``one_factor_at_a_time`` instead changes
    one key at a time. If both rows and a grid are given, each row is combined with each point of the grid. Changes can
    be nested mappings or dotted keys.
    """

    name: str
    """Name of the ablation's folder in output_dir."""
    output_dir: PathText = "runs/ablations"
    """Folder of all ablations; they share results and teachers."""
    base: Annotated[Paths, Field(min_length=1)]
    """YAML files of the base configuration of all runs, relative to this file; merged left to right."""
    overrides: Overrides = Field({})
    """Changes to the base in all runs."""
    teacher: AblationTeacherSection | None = None
    """The teacher to train; leave it out if the base names a checkpoint."""
    rows: dict[str, Overrides] = Field({})
    """Changes to the base, by name of the row."""
    axes: dict[str, Values] = Field({})
    """Values by dotted key; each combination is a row."""
    zip: list[dict[str, Values]] = Field([])
    """Groups of keys whose values change together."""
    one_factor_at_a_time: dict[str, Values] = Field({})
    """Values by dotted key; in each row, all other keys have their default."""
    exclude: list[dict[str, Any]] = Field([])
    """Combinations to leave out; the key `row` stands for the name of a row."""
    seeds: Annotated[list[int], BeforeValidator(_as_seeds), Field(min_length=1)]
    """A list of seeds, or the number of seeds, counted from 0."""
    metrics: Annotated[list[str], Field(min_length=1)]
    """Metrics to compare, as SET/METRIC, and validation/accuracy."""
    baseline: str = DEFAULT
    """The row that all other rows are compared with."""
    test_sets: dict[str, dict[str, Any]] = Field({"test": {}}, min_length=1)
    """Changes to the data section for each test set, by name of the test set."""
    maps: MapsSection = MapsSection()
    executor: ExecutorSection = ExecutorSection()
    results: Paths = Field([])
    """Further folders of results to reuse, relative to this file."""
    max_runs: Annotated[int, Field(ge=1)] = 200
    """Largest number of runs without `--yes`."""

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str) -> str:
        if name in ("", ".", "..", RESULTS, TEACHERS, CACHE) or "/" in name:
            raise ValueError(f"expected a folder name other than {RESULTS}, {TEACHERS} and {CACHE}, without `/`")
        return check_name(name)

    @field_validator("rows")
    @classmethod
    def _names_of_rows_are_valid(cls, rows: dict[str, Overrides]) -> dict[str, Overrides]:
        for row in rows:
            try:
                check_name(row)
            except ValueError as error:
                raise ValueError(f"{error}: {row[:MAX_LENGTH]!r}") from error
        return rows

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed occurs more than once")
        return seeds

    @field_validator("zip")
    @classmethod
    def _groups_have_equal_lengths(cls, groups: list[dict[str, list[Any]]]) -> list[dict[str, list[Any]]]:
        for group in groups:
            if len({len(values) for values in group.values()}) != 1:
                raise ValueError(f"all keys of a group need the same number of values: {', '.join(group) or 'no keys'}")
        return groups

    @model_validator(mode="after")
    def _one_kind_of_grid(self) -> AblationFile:
        if self.one_factor_at_a_time and (self.axes or self.zip):
            raise ValueError("one_factor_at_a_time cannot be combined with axes or zip; remove one of them")
        keys = [*self.axes, *(key for group in self.zip for key in group)]
        if repeated := sorted({key for key in keys if keys.count(key) > 1}):
            raise ValueError(f"axes and zip have values for {', '.join(repeated)} more than once")
        return self

    @property
    def max_possible_runs(self) -> int:
        """Number of runs before exclusions."""
        if self.one_factor_at_a_time:
            points = 1 + sum(len(values) for values in self.one_factor_at_a_time.values())
        else:
            groups = [len(next(iter(group.values()), ())) for group in self.zip]
            points = math.prod([*(len(values) for values in self.axes.values()), *groups])
        return max(len(self.rows), 1) * points * len(self.seeds)

    @property
    def grid_axes(self) -> Mapping[str, list[Any]]:
        """All keys that the grid changes, with their values."""
        groups = {key: values for group in self.zip for key, values in group.items()}
        return {**self.axes, **groups, **self.one_factor_at_a_time}


def read_ablation_file(path: Path, pairs: Sequence[str]) -> AblationFile:
    """Read and check an ablation file.

    Raises:
        InputError: with all errors, one per line.
    """
    content = merge_values(_normalise_keys(merge([path])), _normalise_keys(merge([], pairs)))
    try:
        return AblationFile.model_validate(content)
    except ValidationError as error:
        mistakes = [describe_mistake(item, record=AblationFile) for item in error.errors()]
        raise InputError(format_mistakes(mistakes, str(path))) from error


def _normalise_keys(content: Mapping[str, Any]) -> dict[str, Any]:
    """Make the keys of changes nested and those of axes dotted, so that pairs override the values of the file."""
    normalised = dict(content)
    for key, form in (("overrides", nested), ("axes", dotted), ("one_factor_at_a_time", dotted)):
        if isinstance(normalised.get(key), Mapping):
            normalised[key] = form(normalised[key])
    if isinstance(teacher := normalised.get("teacher"), Mapping):
        normalised["teacher"] = {
            k: nested(v) if k == "overrides" and isinstance(v, Mapping) else v for k, v in teacher.items()
        }
    if isinstance(rows := normalised.get("rows"), Mapping):
        normalised["rows"] = {
            str(name): {} if row is None else nested(row) if isinstance(row, Mapping) else row
            for name, row in rows.items()
        }
    return normalised
