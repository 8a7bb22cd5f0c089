"""Comparisons of two networks: which differences are beyond the noise, and the best network of each figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distill.metrics.names import ACCURACY_MARGIN, METRIC_INFO
from distill.report.common.numbers import format_difference, format_effect, format_interval, format_p
from distill.report.evaluation.record import DIGITS, ComparisonRecord, EvaluationRecord, SetRecord

#: Level of significance for p after Holm's correction.
LEVEL = 0.05
INSIDE = "inside the noise"
NOT_COMPARABLE = "not comparable: the accuracies differ"


@dataclass(frozen=True)
class ComparisonRow:
    """One comparison as text; ``low``, ``value`` and ``high`` are positions from 0 to 1, where 0.5 is no difference."""

    title: str
    first: str
    second: str
    difference: str
    interval: str
    p: str
    effect: str
    n: int
    verdict: str
    low: float
    value: float
    high: float

    @property
    def certain(self) -> bool:
        """Whether the difference is beyond the noise."""
        return self.verdict not in (INSIDE, NOT_COMPARABLE)


def is_certain(comparison: ComparisonRecord) -> bool:
    """Return whether p after Holm's correction is below :data:`LEVEL` and the interval does not contain 0."""
    return comparison["p_holm"] < LEVEL and comparison["low"] * comparison["high"] > 0


def find_comparison(entry: SetRecord, figure: str, first: str, second: str) -> ComparisonRecord | None:
    """Return the comparison of two networks, ``first`` minus ``second``; None if they were not compared."""
    for comparison in entry["comparisons"]:
        if comparison["figure"] == figure and {comparison["first"], comparison["second"]} == {first, second}:
            return comparison if comparison["first"] == first else _swap(comparison)
    return None


def students(record: EvaluationRecord) -> list[str]:
    """Return the names of all networks except the reference and the ceiling."""
    return [name for name in record["networks"] if name not in (record["reference"], record["ceiling"])]


def ranking(entry: SetRecord, figure: str, names: Sequence[str]) -> list[tuple[str, float]]:
    """Return networks and their values, the best first; networks without a value are left out."""
    figures = [(name, entry["networks"][name]["figures"].get(figure)) for name in names if name in entry["networks"]]
    values = [(name, one["value"]) for name, one in figures if one is not None and one["value"] is not None]
    sign = 1 if METRIC_INFO[figure].better == "lower" else -1
    return sorted(values, key=lambda pair: sign * pair[1])


def comparable(entry: SetRecord, figure: str, names: Sequence[str]) -> list[str]:
    """Return the networks among which a figure can be compared.

    Convention:
        - Figures of faithfulness are probabilities of the explained class. A network that is nearly always wrong has a
          low probability whatever its maps show, so these figures are compared only among networks whose accuracy is at
          most :data:`ACCURACY_MARGIN` below the highest one. All other figures are compared among all networks.
        - Networks without an accuracy are kept.

    Args:
        entry: The test set.
        figure: The figure.
        names: The networks.
    """
    if METRIC_INFO[figure].group != "faithfulness":
        return list(names)
    accuracy = dict(ranking(entry, "accuracy", names))
    highest = max(accuracy.values(), default=0.0)
    return [name for name in names if accuracy.get(name, highest) >= highest - ACCURACY_MARGIN - 1e-9]


def best(entry: SetRecord, figure: str, names: Sequence[str]) -> str | None:
    """Return the network that is better than every other one beyond the noise; None if there is no such network.

    Only the networks of :func:`comparable` count.
    """
    ranked = ranking(entry, figure, comparable(entry, figure, names))
    if len(ranked) < 2 or METRIC_INFO[figure].better == "neither":
        return None
    first, *others = (name for name, _ in ranked)
    comparisons = [find_comparison(entry, figure, first, other) for other in others]
    return first if all(one is not None and is_certain(one) and _first_is_better(one) for one in comparisons) else None


def comparison_rows(entry: SetRecord) -> list[ComparisonRow]:
    """Return all comparisons of a test set as text; comparisons of the same figure share a scale."""
    limits: dict[str, float] = {}
    for one in entry["comparisons"]:
        largest = max(abs(one["low"]), abs(one["high"]), abs(one["difference"]))
        limits[one["figure"]] = max(limits.get(one["figure"], 1e-12), largest)
    order = {figure: i for i, figure in enumerate(METRIC_INFO)}
    ordered = sorted(entry["comparisons"], key=lambda one: order.get(one["figure"], len(order)))
    return [_row(entry, one, limits[one["figure"]]) for one in ordered]


def _row(entry: SetRecord, comparison: ComparisonRecord, limit: float) -> ComparisonRow:
    measure = METRIC_INFO[comparison["figure"]]
    low, value, high = (0.5 + comparison[key] / limit / 2 for key in ("low", "difference", "high"))
    return ComparisonRow(
        measure.title,
        comparison["first"],
        comparison["second"],
        format_difference(comparison["difference"], measure.style, digits=DIGITS, unit=True),
        format_interval(comparison["low"], comparison["high"], measure.style, digits=DIGITS),
        format_p(comparison["p_holm"]),
        format_effect(comparison["effect"], signed=True),
        comparison["n"],
        _verdict(entry, comparison),
        low,
        value,
        high,
    )


def _verdict(entry: SetRecord, comparison: ComparisonRecord) -> str:
    if len(comparable(entry, comparison["figure"], (comparison["first"], comparison["second"]))) < 2:
        return NOT_COMPARABLE
    if not is_certain(comparison):
        return INSIDE
    if METRIC_INFO[comparison["figure"]].better == "neither":
        return f"{comparison['first'] if comparison['difference'] > 0 else comparison['second']} higher"
    return f"{comparison['first'] if _first_is_better(comparison) else comparison['second']} better"


def _first_is_better(comparison: ComparisonRecord) -> bool:
    lower_is_better = METRIC_INFO[comparison["figure"]].better == "lower"
    return comparison["difference"] < 0 if lower_is_better else comparison["difference"] > 0


def _swap(comparison: ComparisonRecord) -> ComparisonRecord:
    return {
        **comparison,
        "first": comparison["second"],
        "second": comparison["first"],
        "difference": -comparison["difference"],
        "low": -comparison["high"],
        "high": -comparison["low"],
        "effect": -comparison["effect"],
    }
