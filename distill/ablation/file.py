"""The ablation file: a typed record of its keys, read from YAML and `key=value` pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from distill.config import format_mistakes, merge
from distill.config.base import NotNegative, Section
from distill.config.dotted_keys import dotted, merge_values, nested
from distill.config.messages import describe_mistake
from distill.errors import InputError

#: Folders that all ablations of an output folder share.
RESULTS, TEACHERS, CACHE = "results", "teachers", "teacher_cache"
#: Name of the row from which one factor at a time departs.
DEFAULT = "default"
#: More are no number of seeds, but a seed.
MOST_SEEDS = 1_000


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _counted(value: Any) -> Any:
    if type(value) is not int or value <= 0:
        return value
    if value > MOST_SEEDS:
        raise ValueError(f"a number is how many seeds, and {value:,} are too many; one seed is a list, [{value}]")
    return list(range(value))


Paths = Annotated[list[str], BeforeValidator(_listed)]
Values = Annotated[list[Any], Field(min_length=1)]
Differences = dict[str, Any]


class TaughtSection(Section):
    """A teacher that is trained once; every run that has a teacher learns from it."""

    base: Annotated[Paths, Field(min_length=1)]
    """YAML files of its run, relative to the ablation file; merged left to right."""
    overrides: Differences = Field({})
    """What differs from them."""


class MapsSection(Section):
    """How networks are explained when they are evaluated."""

    method: str = "grad_cam_pp"
    """See `distill list methods`."""
    layer: str = "final"
    target: Literal["label", "teacher"] = "label"
    """The class that is explained: the label, or the teacher's first choice."""


class ExecutorSection(Section):
    """Who carries out the runs."""

    name: Literal["local", "ray"] = "local"
    processes: Annotated[int, Field(ge=1)] = 2
    """Runs at a time on this machine; on a cluster it decides by itself."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads a run; the machine's cores divided by the processes if left out."""
    gpus: NotNegative | None = None
    """Graphics processors a run, on Ray; one where there are any if left out."""
    address: str | None = None
    """A Ray cluster, `auto` or host:port; this machine alone if left out."""
    retries: Annotated[int, Field(ge=0)] = 1
    """How often a run is tried again whose process was lost."""


class AblationFile(Section):
    """A grid of runs, the seeds of each, and what is measured of them.

    Rows are named differences from the base; ``axes`` and ``zip`` span a grid, or ``one_factor_at_a_time`` departs from
    the default by one key; a grid multiplies the rows where both are given. Differences are nested, or dotted keys.
    """

    name: str
    """Name of the folder in output_dir."""
    output_dir: str = "runs/ablations"
    """Folder of ablations, which share results and teachers."""
    base: Annotated[Paths, Field(min_length=1)]
    """YAML files that all runs begin with, relative to this one; merged left to right."""
    overrides: Differences = Field({})
    """What differs from them in all runs."""
    teacher: TaughtSection | None = None
    """Left out where the base names a checkpoint."""
    rows: dict[str, Differences] = Field({})
    """Differences by name."""
    axes: dict[str, Values] = Field({})
    """Values by dotted key; every combination is a row."""
    zip: list[dict[str, Values]] = Field([])
    """Groups of keys whose values are moved along together."""
    one_factor_at_a_time: dict[str, Values] = Field({})
    """Values by dotted key; all other keys stay at their defaults."""
    exclude: list[dict[str, Any]] = Field([])
    """Combinations that are left out; `row` is the name of a row."""
    seeds: Annotated[list[int], BeforeValidator(_counted), Field(min_length=1)]
    """Seeds, or how many."""
    metrics: Annotated[list[str], Field(min_length=1)]
    """What is compared, as SET/figure, and validation/accuracy."""
    baseline: str = DEFAULT
    """The row that the others are compared with."""
    test_sets: dict[str, dict[str, Any]] = Field({"test": {}}, min_length=1)
    """Keys of the data section that differ on the test split, by the name of the set."""
    maps: MapsSection = MapsSection()
    executor: ExecutorSection = ExecutorSection()
    results: Paths = Field([])
    """Further folders with results of runs that need not be run again, relative to this file."""
    max_runs: Annotated[int, Field(ge=1)] = 200
    """A larger grid needs `--yes`."""

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str) -> str:
        if name in ("", ".", "..", RESULTS, TEACHERS, CACHE) or "/" in name:
            raise ValueError(f"should be the name of a folder of its own, not {RESULTS}, {TEACHERS} or {CACHE}")
        return name

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is given twice")
        return seeds

    @field_validator("zip")
    @classmethod
    def _groups_are_even(cls, groups: list[dict[str, list[Any]]]) -> list[dict[str, list[Any]]]:
        for group in groups:
            if len({len(values) for values in group.values()}) != 1:
                raise ValueError(f"the keys of a group need equally many values: {', '.join(group) or 'none'}")
        return groups

    @model_validator(mode="after")
    def _one_kind_of_grid(self) -> AblationFile:
        if self.one_factor_at_a_time and (self.axes or self.zip):
            raise ValueError("one_factor_at_a_time is a grid by itself; leave out axes and zip")
        keys = [*self.axes, *(key for group in self.zip for key in group)]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise ValueError(f"axes and zip give values of {', '.join(twice)} more than once")
        return self

    @property
    def most_runs(self) -> int:
        """How many runs there are if nothing is left out."""
        if self.one_factor_at_a_time:
            points = 1 + sum(len(values) for values in self.one_factor_at_a_time.values())
        else:
            groups = [len(next(iter(group.values()), ())) for group in self.zip]
            points = math.prod([*(len(values) for values in self.axes.values()), *groups])
        return max(len(self.rows), 1) * points * len(self.seeds)

    @property
    def grid_axes(self) -> Mapping[str, list[Any]]:
        """All keys that the grid varies, with their values."""
        groups = {key: values for group in self.zip for key, values in group.items()}
        return {**self.axes, **groups, **self.one_factor_at_a_time}


def read_ablation_file(path: Path, pairs: Sequence[str]) -> AblationFile:
    """Read and check an ablation file.

    Raises:
        InputError: with every mistake, a line each.
    """
    content = merge_values(_normalise_forms(merge([path])), _normalise_forms(merge([], pairs)))
    try:
        return AblationFile.model_validate(content)
    except ValidationError as error:
        mistakes = [describe_mistake(item, record=AblationFile) for item in error.errors()]
        raise InputError(format_mistakes(mistakes, str(path))) from error


def _normalise_forms(content: Mapping[str, Any]) -> dict[str, Any]:
    """Bring differences and axes to one form each, so that pairs find what the file says."""
    spread = dict(content)
    for key, form in (("overrides", nested), ("axes", dotted), ("one_factor_at_a_time", dotted)):
        if isinstance(spread.get(key), Mapping):
            spread[key] = form(spread[key])
    if isinstance(teacher := spread.get("teacher"), Mapping):
        spread["teacher"] = {
            k: nested(v) if k == "overrides" and isinstance(v, Mapping) else v for k, v in teacher.items()
        }
    if isinstance(rows := spread.get("rows"), Mapping):
        spread["rows"] = {
            str(name): {} if row is None else nested(row) if isinstance(row, Mapping) else row
            for name, row in rows.items()
        }
    return spread
