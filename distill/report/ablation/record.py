"""What an ablation finds: plain values that `ablation.json` holds and everything that is shown is made of."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from distill.errors import InputError, unknown_name
from distill.files import write_text
from distill.metrics.names import METRIC_INFO, MetricInfo

FORMAT = 1


class TrialResult(TypedDict):
    """One row under one seed.

    ``settings`` are the dotted keys in which the run differs from the base, and those of every axis. ``figures`` are
    named ``SET/figure`` with the names of :data:`distill.metrics.names.MEASURES`, measured on the test split with the
    weights that were selected on the validation split; ``validation/accuracy`` is theirs there. Null is "not measured".
    A run that failed has no figures and a reason.
    """

    format: Literal[1]
    row: str
    seed: int
    settings: dict[str, Any]
    identity: str
    state: Literal["done", "failed"]
    reason: str | None
    figures: dict[str, float | None]
    seconds: float


class AblationRecord(TypedDict):
    """All trials, by row in the file's order and then by seed; with fewer than 8 seeds they are exploratory."""

    format: Literal[1]
    name: str
    baseline: str
    rows: list[str]
    seeds: list[int]
    metrics: list[str]
    axes: dict[str, list[Any]]
    exploratory: bool
    trials: list[TrialResult]


#: With fewer seeds of any row, an ablation is exploratory.
ENOUGH_SEEDS = 8


#: Finished and failed trials by row in the file's order, and by seed.
Trials = Mapping[str, Mapping[int, TrialResult]]


Verdict = Literal[
    "baseline", "better", "worse", "different", "inside the noise", "too few seeds", "no pairs", "not measured"
]


class Spread(TypedDict):
    """A figure of a row over its seeds, with the 95 % interval of the mean (Student's t); null where n is too small."""

    n: int
    mean: float | None
    deviation: float | None
    low: float | None
    high: float | None


class Difference(TypedDict):
    """A row less its baseline, seed by seed.

    ``n`` counts the pairs, ``unpaired`` the seeds for which one of the two has no figure. ``p`` is of the paired
    t-test, ``p_holm`` the same after Holm's correction over the rows of this figure, ``effect`` the mean divided by the
    deviation of the differences (Cohen's d_z), ``seeds_needed`` how many pairs find such an effect four times in five,
    at the level that Holm's correction leaves to this row.
    """

    n: int
    unpaired: int
    mean: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    effect: float | None
    seeds_needed: int | None


class Finding(TypedDict):
    """One figure of one row; the baseline has no difference."""

    figure: Spread
    difference: Difference | None
    verdict: Verdict


class Failure(TypedDict):
    """A trial that came to a bad end."""

    seed: int
    reason: str


class RowTrials(TypedDict):
    """What became of a row's trials; ``missing`` are seeds without a trial."""

    done: int
    failed: list[Failure]
    missing: list[int]


class Summary(TypedDict):
    """What an ablation says.

    ``baselines`` has for every row the one that it is compared with, and ``within`` the axes on which the two are the
    same, where there is more than one baseline; ``elsewhere`` are rows at whose place of the grid there is none.
    ``fewest`` is the least number of seeds of any row that has finished together with its baseline. ``findings`` are by
    figure, as SET/figure, and by row.
    """

    format: Literal[1]
    name: str
    baseline: str
    baselines: dict[str, str]
    within: list[str]
    elsewhere: list[str]
    rows: list[str]
    seeds: list[int]
    metrics: list[str]
    exploratory: bool
    fewest: int
    trials: dict[str, RowTrials]
    findings: dict[str, dict[str, Finding]]


@cache
def _adapter() -> TypeAdapter[AblationRecord]:
    return TypeAdapter(AblationRecord)


def save_ablation(record: AblationRecord, path: Path | str) -> Path:
    """Write a record as JSON; the file appears whole or not at all."""
    return write_text(path, json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def load_ablation(path: Path | str) -> AblationRecord:
    """Read a record and check it.

    Raises:
        InputError: if there is no such file, or it is not a record of this format.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no ablation at {path}; make one with `distill ablate`.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _adapter().validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {where}: {first['msg']}; run `distill ablate` anew.") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    return cast(AblationRecord, content)


def measure_of(metric: str) -> MetricInfo:
    """Give the words and the direction of a figure that is named as SET/figure.

    Example:
        >>> measure_of("unbiased/accuracy").title
        'Accuracy'
    """
    figure = metric.rpartition("/")[2]
    if figure not in METRIC_INFO:
        raise ValueError(f"`metrics`: {metric!r}: {unknown_name('figure', figure, METRIC_INFO)}.")
    return METRIC_INFO[figure]


def sort_trials(record: AblationRecord) -> dict[str, dict[int, TrialResult]]:
    """Sort trials by row in the file's order, and by seed; see :func:`summarise`."""
    if record["baseline"] not in record["rows"]:
        raise ValueError(f"`baseline`: {unknown_name('row', record['baseline'], record['rows'])}.")
    trials: dict[str, dict[int, TrialResult]] = {name: {} for name in record["rows"]}
    for trial in sorted(record["trials"], key=lambda trial: trial["seed"]):
        row, seed = trial["row"], trial["seed"]
        if row not in trials or seed not in record["seeds"]:
            raise ValueError(f"`trials`: row {row!r} with seed {seed} is no part of ablation {record['name']!r}.")
        if seed in trials[row]:
            raise ValueError(f"`trials`: row {row!r} with seed {seed} is there more than once.")
        trials[row][seed] = trial
    return trials


def values_by_seed(trials: Mapping[int, TrialResult], metric: str) -> dict[int, float]:
    """Give a figure of one row's finished trials; a seed without it is left out."""
    found = {seed: trial["figures"].get(metric) for seed, trial in trials.items() if trial["state"] == "done"}
    return {seed: value for seed, value in found.items() if value is not None and math.isfinite(value)}
