"""Statistics of an ablation: trials -> every figure of every row, and its difference from the baseline."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from distill.metrics.names import Better
from distill.metrics.significance import (
    compare_seeds,
    holm,
    holm_factors,
    mean_interval,
    seeds_needed,
)
from distill.report.ablation.record import (
    ENOUGH_SEEDS,
    AblationRecord,
    Difference,
    Failure,
    Finding,
    RowTrials,
    Spread,
    Summary,
    TrialResult,
    Trials,
    Verdict,
    measure_of,
    sort_trials,
    values_by_seed,
)

#: The chance that a difference is claimed which is none, over all rows of a figure.
ALPHA = 0.05


def compare_rows(
    rows: Mapping[str, Mapping[int, float]], *, baselines: Mapping[str, str], better: Better
) -> dict[str, Finding]:
    """Compare every row with its baseline, paired by seed.

    Convention:
        - A difference is claimed where Holm's p over all rows is below 0.05. All else is inside the noise, rests on
          fewer than two pairs, or on none.

    Args:
        rows: The figure by row and seed.
        baselines: For every row the one that it is compared with; itself for a baseline.
        better: Which direction is better; a claimed difference of a figure that has none is called different.
    """
    differences = {row: _difference(own, rows[baselines[row]]) for row, own in rows.items() if row != baselines[row]}
    ps = [math.nan if one["p"] is None else one["p"] for one in differences.values()]
    for one, p, factor in zip(differences.values(), holm(ps), holm_factors(ps), strict=True):
        one["p_holm"] = _plain(p)
        if factor and one["effect"] is not None:
            one["seeds_needed"] = seeds_needed(one["effect"], alpha=ALPHA / factor)
    return {
        row: {
            "figure": _spread([own[seed] for seed in sorted(own)]),
            "difference": differences.get(row),
            "verdict": _verdict(own, differences[row], better) if row in differences else "baseline",
        }
        for row, own in rows.items()
    }


def _spread(values: list[float]) -> Spread:
    if not values:
        return {"n": 0, "mean": None, "deviation": None, "low": None, "high": None}
    found = mean_interval(np.array(values))
    return {
        "n": found.n,
        "mean": _plain(found.value),
        "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "low": _plain(found.low),
        "high": _plain(found.high),
    }


def _difference(row: Mapping[int, float], baseline: Mapping[int, float]) -> Difference:
    seeds = sorted(row.keys() & baseline.keys())
    difference: Difference = {
        "n": len(seeds),
        "unpaired": len(row.keys() ^ baseline.keys()),
        "mean": None,
        "low": None,
        "high": None,
        "p": None,
        "p_holm": None,
        "effect": None,
        "seeds_needed": None,
    }
    if seeds:
        found = compare_seeds(np.array([row[seed] for seed in seeds]), np.array([baseline[seed] for seed in seeds]))
        difference["mean"] = _plain(found.difference)
        difference["low"], difference["high"] = _plain(found.low), _plain(found.high)
        difference["p"], difference["effect"] = _plain(found.p), _plain(found.effect)
    return difference


def _verdict(own: Mapping[int, float], difference: Difference, better: Better) -> Verdict:
    if difference["mean"] is None:
        return "no pairs" if own else "not measured"
    if difference["p_holm"] is None:
        return "too few seeds"
    if difference["p_holm"] >= ALPHA:
        return "inside the noise"
    if better == "neither":
        return "different"
    return "better" if (difference["mean"] > 0) == (better == "higher") else "worse"


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


FORMAT: Literal[1] = 1


def summarise(record: AblationRecord) -> Summary:
    """Compare every row with its baseline, paired by seed.

    Convention:
        - Figures are in the units of the record: an accuracy is a share, and so is its difference.
        - A row is compared with the baseline; where named rows are multiplied by a grid, with the baseline's row at the
          same place of the grid.
        - What is better is said by :data:`distill.metrics.names.METRIC_INFO`.
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
