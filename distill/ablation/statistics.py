"""Statistics of an ablation: mean and interval of each metric and row, and paired differences from the baseline."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from distill.metrics.names import ACCURACY_MARGIN, Better
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

#: Family-wise error rate of a metric: the probability of any false claim over all its rows.
ALPHA = 0.05


def compare_rows(
    rows: Mapping[str, Mapping[int, float]], *, baselines: Mapping[str, str], better: Better
) -> dict[str, Finding]:
    """Compare each row with its baseline, paired by seed, for one metric.

    Convention:
        - A difference is claimed if its Holm-adjusted p-value over all rows is below 0.05. Otherwise the verdict says
          that the difference is inside the noise, or that there are fewer than two pairs, or none.

    Args:
        rows: Values of the metric by row and seed.
        baselines: The baseline of each row; a baseline is its own.
        better: Which direction is better; without a direction, a claimed difference is called "different".

    Returns:
        Mean and interval, difference and verdict of each row.
    """
    differences = {
        row: _difference(values, rows[baselines[row]]) for row, values in rows.items() if row != baselines[row]
    }
    ps = [math.nan if each["p"] is None else each["p"] for each in differences.values()]
    for difference, p, factor in zip(differences.values(), holm(ps), holm_factors(ps), strict=True):
        difference["p_holm"] = _finite_or_none(p)
        if factor and difference["effect"] is not None:
            difference["seeds_needed"] = seeds_needed(difference["effect"], alpha=ALPHA / factor)
    return {
        row: {
            "figure": _spread([values[seed] for seed in sorted(values)]),
            "difference": differences.get(row),
            "verdict": _verdict(values, differences[row], better) if row in differences else "baseline",
        }
        for row, values in rows.items()
    }


#: Fewest seeds of an interval. The factor of the t-interval is 12.7 with 2 seeds and 4.3 with 3: an interval of 2 seeds
#: says nothing, and leaves the range that a share can have.
INTERVAL_SEEDS = 3


def _spread(values: list[float]) -> Spread:
    if not values:
        return {"n": 0, "mean": None, "deviation": None, "low": None, "high": None}
    interval = mean_interval(np.array(values))
    return {
        "n": interval.n,
        "mean": _finite_or_none(interval.value),
        "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "low": _finite_or_none(interval.low) if interval.n >= INTERVAL_SEEDS else None,
        "high": _finite_or_none(interval.high) if interval.n >= INTERVAL_SEEDS else None,
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
        comparison = compare_seeds(
            np.array([row[seed] for seed in seeds]), np.array([baseline[seed] for seed in seeds])
        )
        difference["mean"] = _finite_or_none(comparison.difference)
        if len(seeds) >= INTERVAL_SEEDS:
            difference["low"], difference["high"] = _finite_or_none(comparison.low), _finite_or_none(comparison.high)
        difference["p"], difference["effect"] = _finite_or_none(comparison.p), _finite_or_none(comparison.effect)
    return difference


def _verdict(values: Mapping[int, float], difference: Difference, better: Better) -> Verdict:
    if difference["mean"] is None:
        return "no pairs" if values else "not measured"
    if difference["p_holm"] is None:
        return "too few seeds"
    if difference["p_holm"] >= ALPHA:
        return "inside the noise"
    if better == "neither":
        return "different"
    return "better" if (difference["mean"] > 0) == (better == "higher") else "worse"


def _finite_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


FORMAT: Literal[1] = 1


def summarise(record: AblationRecord) -> Summary:
    """Compare each row with its baseline, paired by seed, for all metrics.

    Convention:
        - Values have the units of the record: accuracies and their differences are fractions, not percentages.
        - Rows are compared with the baseline. If named rows are combined with a grid, each row is compared with the
          baseline's row at the same grid point.
        - Figures of faithfulness are compared only with a baseline whose accuracy differs by at most
          :data:`distill.metrics.names.ACCURACY_MARGIN`, over the seeds of both: they are probabilities of the explained
          class, which are low for a network that is nearly always wrong, whatever its maps show.
        - Which direction is better is defined in :data:`distill.metrics.names.METRIC_INFO`.
        - Seeds that only one of the two rows has are left out and counted.
        - The summary is exploratory if the record is, or if any row shares fewer than 8 finished seeds with its
          baseline.
        - The result does not depend on the order of the trials.

    Args:
        record: All trials.

    Returns:
        Values that JSON can store.

    Raises:
        ValueError: if the baseline or a metric is unknown, or a trial does not belong to the ablation or occurs twice.
    """
    trials = sort_trials(record)
    baselines = find_baselines(record, trials)
    rows = {name: _row_trials(by_seed, record["seeds"]) for name, by_seed in trials.items()}
    done = {
        name: {seed for seed, trial in by_seed.items() if trial["state"] == "done"} for name, by_seed in trials.items()
    }
    fewest = min(len(done[name] & done[baselines[name]]) for name in rows)
    within = _distinguishing_axes(record, trials) if len(set(baselines.values())) > 1 else []
    return {
        "format": FORMAT,
        "name": record["name"],
        "baseline": record["baseline"],
        "baselines": baselines,
        "within": within,
        "elsewhere": _rows_without_local_baseline(record, trials, baselines) if within else [],
        "rows": list(record["rows"]),
        "seeds": sorted(record["seeds"]),
        "metrics": list(record["metrics"]),
        "exploratory": record["exploratory"] or fewest < ENOUGH_SEEDS,
        "fewest": fewest,
        "trials": rows,
        "findings": {metric: _compare(trials, metric, baselines=baselines) for metric in record["metrics"]},
    }


def _compare(trials: Trials, metric: str, *, baselines: Mapping[str, str]) -> dict[str, Finding]:
    """Compare all rows by one figure, if it can be compared; see :func:`summarise`."""
    findings = compare_rows(
        {row: values_by_seed(by_seed, metric) for row, by_seed in trials.items()},
        baselines=baselines,
        better=measure_of(metric).better,
    )
    if measure_of(metric).group == "faithfulness":
        name = f"{metric.rpartition('/')[0]}/accuracy"
        accuracy = {row: values_by_seed(by_seed, name) for row, by_seed in trials.items()}
        for row, finding in findings.items():
            difference = _difference(accuracy[row], accuracy[baselines[row]])["mean"]
            measured = finding["difference"] is not None and finding["difference"]["mean"] is not None
            if measured and difference is not None and abs(difference) > ACCURACY_MARGIN + 1e-9:
                finding["verdict"] = "not comparable"
    return findings


def find_baselines(record: AblationRecord, trials: Trials) -> dict[str, str]:
    """Return the row that each row is compared with; see :func:`summarise`."""
    points = _grid_points(record, trials)
    changes = {
        row: {key: value for key, value in settings.items() if key not in record["axes"]}
        for row, settings in _settings(trials).items()
    }
    candidates = [row for row in trials if changes[row] == changes[record["baseline"]]]
    if len(candidates) == len(trials):
        return dict.fromkeys(trials, record["baseline"])
    return {
        row: next((other for other in candidates if points[other] == points[row]), record["baseline"]) for row in trials
    }


def _settings(trials: Trials) -> dict[str, dict[str, Any]]:
    return {row: next((trial["settings"] for trial in by_seed.values()), {}) for row, by_seed in trials.items()}


def _grid_points(record: AblationRecord, trials: Trials) -> dict[str, dict[str, Any]]:
    return {
        row: {key: value for key, value in settings.items() if key in record["axes"]}
        for row, settings in _settings(trials).items()
    }


def _distinguishing_axes(record: AblationRecord, trials: Trials) -> list[str]:
    """Return the axes that distinguish grid points, without those that are determined by earlier ones."""
    axes: list[str] = []
    for key in record["axes"]:
        values: dict[str, set[str]] = {}
        for point in _grid_points(record, trials).values():
            prefix = json.dumps([point.get(axis) for axis in axes], default=str)
            values.setdefault(prefix, set()).add(json.dumps(point.get(key), default=str))
        if any(len(distinct) > 1 for distinct in values.values()):
            axes.append(key)
    return axes


def _rows_without_local_baseline(record: AblationRecord, trials: Trials, baselines: Mapping[str, str]) -> list[str]:
    """Return the rows whose baseline is at another grid point."""
    points = _grid_points(record, trials)
    return [row for row, baseline in baselines.items() if points[row] != points[baseline]]


def _row_trials(trials: Mapping[int, TrialResult], seeds: list[int]) -> RowTrials:
    failed: list[Failure] = [
        {"seed": seed, "reason": trial["reason"] or "unknown reason"}
        for seed, trial in trials.items()
        if trial["state"] == "failed"
    ]
    missing = sorted(set(seeds) - trials.keys())
    return {"done": len(trials) - len(failed), "failed": failed, "missing": missing}
