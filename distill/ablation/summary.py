"""Trials -> what they say: every figure of every row, and its difference from its baseline."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from typing_extensions import TypedDict

from distill.ablation.findings import Finding, compare_rows
from distill.ablation.records import AblationRecord, TrialResult
from distill.errors import unknown
from distill.measures import MEASURES, Measure

FORMAT: Literal[1] = 1
#: With fewer seeds of any row, an ablation is exploratory.
ENOUGH_SEEDS = 8

#: Finished and failed trials by row in the file's order, and by seed.
Trials = Mapping[str, Mapping[int, TrialResult]]


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


def summarise(record: AblationRecord) -> Summary:
    """Compare every row with its baseline, paired by seed.

    Convention:
        - Figures are in the units of the record: an accuracy is a share, and so is its difference.
        - A row is compared with the baseline; where named rows are multiplied by a grid, with the baseline's row at the
          same place of the grid.
        - What is better is said by :data:`distill.measures.MEASURES`.
        - Pairs with a missing partner are left out and counted.
        - With fewer than 8 seeds of any row that have finished, the row's run and its baseline's, all is exploratory.
        - The order in which trials arrived does not matter.

    Args:
        record: All trials.

    Returns:
        Plain values, ready for JSON.

    Raises:
        ValueError: if the baseline or a figure is unknown, or a trial is no part of the ablation or comes twice.
    """
    trials = sort_trials(record)
    baselines = find_baselines(record, trials)
    rows = {name: _row_trials(own, record["seeds"]) for name, own in trials.items()}
    done = {name: {seed for seed, trial in own.items() if trial["state"] == "done"} for name, own in trials.items()}
    fewest = min(len(done[name] & done[baselines[name]]) for name in rows)
    within = _telling(record, trials) if len(set(baselines.values())) > 1 else []
    return {
        "format": FORMAT,
        "name": record["name"],
        "baseline": record["baseline"],
        "baselines": baselines,
        "within": within,
        "elsewhere": _elsewhere(record, trials, baselines) if within else [],
        "rows": list(record["rows"]),
        "seeds": sorted(record["seeds"]),
        "metrics": list(record["metrics"]),
        "exploratory": record["exploratory"] or fewest < ENOUGH_SEEDS,
        "fewest": fewest,
        "trials": rows,
        "findings": {
            metric: compare_rows(
                {row: values_by_seed(own, metric) for row, own in trials.items()},
                baselines=baselines,
                better=measure_of(metric).better,
            )
            for metric in record["metrics"]
        },
    }


def measure_of(metric: str) -> Measure:
    """Give the words and the direction of a figure that is named as SET/figure.

    Example:
        >>> measure_of("unbiased/accuracy").title
        'Accuracy'
    """
    figure = metric.rpartition("/")[2]
    if figure not in MEASURES:
        raise ValueError(f"`metrics`: {metric!r}: {unknown('figure', figure, MEASURES)}.")
    return MEASURES[figure]


def sort_trials(record: AblationRecord) -> dict[str, dict[int, TrialResult]]:
    """Sort trials by row in the file's order, and by seed; see :func:`summarise`."""
    if record["baseline"] not in record["rows"]:
        raise ValueError(f"`baseline`: {unknown('row', record['baseline'], record['rows'])}.")
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


def find_baselines(record: AblationRecord, trials: Trials) -> dict[str, str]:
    """Give for every row the one that it is compared with; see :func:`summarise`."""
    settings, places = _settings(trials), _places(record, trials)
    named = {
        row: {key: value for key, value in own.items() if key not in record["axes"]} for row, own in settings.items()
    }
    alike = [row for row in trials if named[row] == named[record["baseline"]]]
    if len(alike) == len(trials):
        return dict.fromkeys(trials, record["baseline"])
    return {row: next((one for one in alike if places[one] == places[row]), record["baseline"]) for row in trials}


def _settings(trials: Trials) -> dict[str, dict[str, Any]]:
    return {row: next((trial["settings"] for trial in own.values()), {}) for row, own in trials.items()}


def _places(record: AblationRecord, trials: Trials) -> dict[str, dict[str, Any]]:
    return {
        row: {key: value for key, value in own.items() if key in record["axes"]}
        for row, own in _settings(trials).items()
    }


def _telling(record: AblationRecord, trials: Trials) -> list[str]:
    """Give the axes that tell places of the grid apart, without those that move along with earlier ones."""
    kept: list[str] = []
    for key in record["axes"]:
        values: dict[str, set[str]] = {}
        for own in _places(record, trials).values():
            place = json.dumps([own.get(one) for one in kept], default=str)
            values.setdefault(place, set()).add(json.dumps(own.get(key), default=str))
        if any(len(found) > 1 for found in values.values()):
            kept.append(key)
    return kept


def _elsewhere(record: AblationRecord, trials: Trials, baselines: Mapping[str, str]) -> list[str]:
    places = _places(record, trials)
    return [row for row, baseline in baselines.items() if places[row] != places[baseline]]


def _row_trials(trials: Mapping[int, TrialResult], seeds: list[int]) -> RowTrials:
    failed: list[Failure] = [
        {"seed": seed, "reason": trial["reason"] or "no reason was kept"}
        for seed, trial in trials.items()
        if trial["state"] == "failed"
    ]
    missing = sorted(set(seeds) - trials.keys())
    return {"done": len(trials) - len(failed), "failed": failed, "missing": missing}
