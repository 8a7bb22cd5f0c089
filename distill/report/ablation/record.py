"""Records of an ablation: `ablation.json` (all trials) and `summary.json` (their statistics), as typed dictionaries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from distill.errors import unknown_name
from distill.metrics.names import METRIC_INFO, MetricInfo
from distill.report.common.record_files import load_json, save_json

FORMAT = 1
#: Digits of a percentage in tables, sentences and plots; see :mod:`distill.report.common.numbers`.
DIGITS = 2


class TrialResult(TypedDict):
    """One row with one seed.

    ``settings`` are the dotted keys in which the run differs from the base, and those of every axis. ``figures`` are
    named ``SET/figure`` with the names of :data:`distill.metrics.names.METRIC_INFO`. They are measured on the test
    split with the weights that were selected on the validation split; ``validation/accuracy`` is the accuracy of these
    weights on the validation split. Null means "not measured". A failed run has no figures and a reason.
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
    """All trials, by row in the order of the ablation file and then by seed; exploratory with fewer than 8 seeds."""

    format: Literal[1]
    name: str
    baseline: str
    rows: list[str]
    seeds: list[int]
    metrics: list[str]
    axes: dict[str, list[Any]]
    exploratory: bool
    trials: list[TrialResult]


#: An ablation is exploratory if any row has fewer seeds.
ENOUGH_SEEDS = 8


#: Finished and failed trials, by row in the order of the ablation file and by seed.
Trials = Mapping[str, Mapping[int, TrialResult]]


Verdict = Literal[
    "baseline",
    "better",
    "worse",
    "different",
    "inside the noise",
    "not comparable",
    "too few seeds",
    "no pairs",
    "not measured",
]


class Spread(TypedDict):
    """A figure of a row over its seeds, with the 95 % interval of the mean (Student's t); null if n is below 3."""

    n: int
    mean: float | None
    deviation: float | None
    low: float | None
    high: float | None


class Difference(TypedDict):
    """Differences between a row and its baseline, paired by seed.

    ``n`` is the number of pairs, ``unpaired`` the number of seeds for which one of the two has no figure. ``p`` is the
    p-value of the paired t-test, ``p_holm`` the same after Holm's correction over the rows of this figure. ``effect``
    is the mean of the differences divided by their standard deviation (Cohen's d_z). ``seeds_needed`` is the number of
    pairs that detect such an effect with a power of 80 %, at the level that Holm's correction leaves to this row.
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
    """A failed trial."""

    seed: int
    reason: str


class RowTrials(TypedDict):
    """Number of finished trials of a row, its failed trials, and the seeds without a trial (``missing``)."""

    done: int
    failed: list[Failure]
    missing: list[int]


class Summary(TypedDict):
    """Statistics of an ablation.

    ``baselines`` is the baseline of every row. If there is more than one baseline, ``within`` are the axes on which a
    row and its baseline have the same values, and ``elsewhere`` are the rows for which the grid has no such baseline.
    ``fewest`` is the smallest number of seeds, over the rows, that finished for both the row and its baseline.
    ``findings`` are by figure, as SET/figure, and by row.
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
    """Write a record as JSON, atomically."""
    return save_json(record, path)


def load_ablation(path: Path | str) -> AblationRecord:
    """Read a record and check it.

    Raises:
        InputError: if the file is missing or is not a record of this format.
    """
    record = load_json(
        path,
        _adapter(),
        format=FORMAT,
        kind="ablation",
        command="distill ablate",
        figures=lambda record: [pair for trial in record["trials"] for pair in trial["figures"].items()],
    )
    return cast(AblationRecord, record)


def measure_of(metric: str) -> MetricInfo:
    """Return title, style and direction of a figure that is named SET/figure.

    Example:
        >>> measure_of("unbiased/accuracy").title
        'Accuracy'
    """
    figure = metric.rpartition("/")[2]
    if figure not in METRIC_INFO:
        raise ValueError(f"`metrics`: {metric!r}: {unknown_name('figure', figure, METRIC_INFO)}.")
    return METRIC_INFO[figure]


def sort_trials(record: AblationRecord) -> dict[str, dict[int, TrialResult]]:
    """Return all trials by row, in the order of the ablation file, and by seed.

    Raises:
        ValueError: if the baseline or the row or seed of a trial is not in the record, or a trial is repeated.
    """
    if record["baseline"] not in record["rows"]:
        raise ValueError(f"`baseline`: {unknown_name('row', record['baseline'], record['rows'])}.")
    trials: dict[str, dict[int, TrialResult]] = {name: {} for name in record["rows"]}
    for trial in sorted(record["trials"], key=lambda trial: trial["seed"]):
        row, seed = trial["row"], trial["seed"]
        if row not in trials or seed not in record["seeds"]:
            raise ValueError(f"`trials`: row {row!r} with seed {seed} is not in ablation {record['name']!r}.")
        if seed in trials[row]:
            raise ValueError(f"`trials`: row {row!r} with seed {seed} occurs more than once.")
        trials[row][seed] = trial
    return trials


def values_by_seed(trials: Mapping[int, TrialResult], metric: str) -> dict[int, float]:
    """Return a figure of one row's finished trials by seed; seeds without a finite value are left out."""
    values = {seed: trial["figures"].get(metric) for seed, trial in trials.items() if trial["state"] == "done"}
    return {seed: value for seed, value in values.items() if value is not None and math.isfinite(value)}
