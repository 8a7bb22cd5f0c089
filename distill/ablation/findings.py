"""One figure of all rows -> its mean for each, the difference from its baseline, and what may be claimed of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
from typing_extensions import TypedDict

from distill.measures import Better
from distill.metrics.statistics import compare_seeds, holm, holm_factors, mean_interval, seeds_needed

#: The chance that a difference is claimed which is none, over all rows of a figure.
ALPHA = 0.05

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
