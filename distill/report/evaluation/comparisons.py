"""What comparisons say of two networks, and what they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distill.metrics.names import METRIC_INFO, Style
from distill.report.evaluation.record import ComparisonRecord, EvaluationRecord, SetRecord

#: Of p after Holm's correction: a difference above it is called noise.
LEVEL = 0.05
INSIDE = "inside the noise"


@dataclass(frozen=True)
class ComparisonRow:
    """One comparison in words; ``low``, ``value`` and ``high`` are positions from 0 to 1, no difference at 0.5."""

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
        """Whether there is a difference beyond the noise."""
        return self.verdict != INSIDE


def is_certain(comparison: ComparisonRecord) -> bool:
    """Say whether a difference is more than noise: p after Holm is small, and the interval leaves 0 out."""
    return comparison["p_holm"] < LEVEL and comparison["low"] * comparison["high"] > 0


def compare(entry: SetRecord, figure: str, first: str, second: str) -> ComparisonRecord | None:
    """Find the comparison of two networks, ``first`` minus ``second``; None if none was made."""
    for found in entry["comparisons"]:
        if found["figure"] == figure and {found["first"], found["second"]} == {first, second}:
            return found if found["first"] == first else _turned(found)
    return None


def students(record: EvaluationRecord) -> list[str]:
    """Name the networks that compete: neither the reference nor its second training."""
    return [name for name in record["networks"] if name not in (record["reference"], record["ceiling"])]


def ranking(entry: SetRecord, figure: str, names: Sequence[str]) -> list[tuple[str, float]]:
    """Order networks by a figure, the best first; those without a value are left out."""
    measured = [(name, entry["networks"][name]["figures"].get(figure)) for name in names if name in entry["networks"]]
    values = [(name, found["value"]) for name, found in measured if found is not None and found["value"] is not None]
    sign = 1 if METRIC_INFO[figure].better == "lower" else -1
    return sorted(values, key=lambda pair: sign * pair[1])


def best(entry: SetRecord, figure: str, names: Sequence[str]) -> str | None:
    """Name the network that is ahead of each other one by more than noise; None where there is none."""
    ranked = ranking(entry, figure, names)
    if len(ranked) < 2 or METRIC_INFO[figure].better == "neither":
        return None
    first, *others = (name for name, _ in ranked)
    found = [compare(entry, figure, first, other) for other in others]
    return first if all(one is not None and is_certain(one) and _ahead(one) for one in found) else None


def comparison_rows(entry: SetRecord) -> list[ComparisonRow]:
    """Word all comparisons of a test set; those of one figure share a scale."""
    widest: dict[str, float] = {}
    for found in entry["comparisons"]:
        reach = max(abs(found["low"]), abs(found["high"]), abs(found["difference"]))
        widest[found["figure"]] = max(widest.get(found["figure"], 1e-12), reach)
    order = {figure: i for i, figure in enumerate(METRIC_INFO)}
    ordered = sorted(entry["comparisons"], key=lambda found: order.get(found["figure"], len(order)))
    return [_row(found, widest[found["figure"]]) for found in ordered]


def format_difference(value: float, style: Style) -> str:
    """Print a difference with its sign, shares in points.

    Example:
        >>> format_difference(0.1234, "percent"), format_difference(-0.1234, "number")
        ('+12.3 points', '−0.123')
    """
    text = f"{value * 100:+.1f} points" if style == "percent" else f"{value:+.3f}"
    return text.replace("-", "−")


def format_range(low: float, high: float, style: Style) -> str:
    """Print the interval of a difference.

    Example:
        >>> format_range(-0.01, 0.034, "percent")
        '−1.0 to 3.4'
    """
    scale, digits = (100, 1) if style == "percent" else (1, 3)
    return f"{low * scale:.{digits}f} to {high * scale:.{digits}f}".replace("-", "−")


def format_p(p: float) -> str:
    """Print a p.

    Example:
        >>> format_p(0.0123), format_p(1e-9)
        ('0.012', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _row(found: ComparisonRecord, widest: float) -> ComparisonRow:
    measure = METRIC_INFO[found["figure"]]
    low, value, high = (0.5 + found[key] / widest / 2 for key in ("low", "difference", "high"))
    return ComparisonRow(
        measure.title,
        found["first"],
        found["second"],
        format_difference(found["difference"], measure.style),
        format_range(found["low"], found["high"], measure.style),
        format_p(found["p_holm"]),
        f"{found['effect']:+.2f}".replace("-", "−"),
        found["n"],
        _verdict(found),
        low,
        value,
        high,
    )


def _verdict(found: ComparisonRecord) -> str:
    if not is_certain(found):
        return INSIDE
    if METRIC_INFO[found["figure"]].better == "neither":
        return f"{found['first'] if found['difference'] > 0 else found['second']} higher"
    return f"{found['first'] if _ahead(found) else found['second']} better"


def _ahead(found: ComparisonRecord) -> bool:
    return found["difference"] < 0 if METRIC_INFO[found["figure"]].better == "lower" else found["difference"] > 0


def _turned(found: ComparisonRecord) -> ComparisonRecord:
    return {
        **found,
        "first": found["second"],
        "second": found["first"],
        "difference": -found["difference"],
        "low": -found["high"],
        "high": -found["low"],
        "effect": -found["effect"],
    }
