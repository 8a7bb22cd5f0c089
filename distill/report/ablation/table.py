"""A summary as rows of cells, the same for Markdown and for the page."""

from __future__ import annotations

from dataclasses import dataclass

from distill.config.dotted_keys import short_names
from distill.metrics.names import Style
from distill.report.ablation.record import ENOUGH_SEEDS, Finding, Summary, Verdict, measure_of
from distill.report.common.numbers import (
    format_difference,
    format_effect,
    format_p,
    format_value,
    format_width,
)

NONE = "–"
#: What is said of a row where it stands out; a row without such a word is inside the noise.
CLAIMS: tuple[Verdict, ...] = ("better", "worse", "different")
#: Headings of the table of differences after the row and, where there are several, its baseline.
_COLUMNS = (
    "Pairs",
    "Mean",
    "Deviation",
    "Difference",
    "95 % interval",
    "p (Holm)",
    "d_z",
    "Pairs for 80 % power",
    "Verdict",
)


@dataclass(frozen=True)
class Cell:
    """One figure of one row: mean, half of its 95 % interval, what may be claimed, and ``n`` if seeds are missing."""

    text: str
    spread: str
    verdict: Verdict
    n: int | None


@dataclass(frozen=True)
class Line:
    """One row of the table on one test set."""

    row: str
    is_baseline: bool
    seeds: int
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Section:
    """One test set: the figures that were measured on it, and all rows."""

    name: str
    titles: tuple[str, ...]
    lines: tuple[Line, ...]


def sections(summary: Summary) -> list[Section]:
    """Lay the means out, a section for every test set, in the order of the figures."""
    found = []
    for name in dict.fromkeys(metric.rpartition("/")[0] for metric in summary["metrics"]):
        metrics = [metric for metric in summary["metrics"] if metric.rpartition("/")[0] == name]
        lines = tuple(
            Line(
                row,
                summary["baselines"][row] == row,
                summary["trials"][row]["done"],
                tuple(_cell(summary, metric, row) for metric in metrics),
            )
            for row in summary["rows"]
        )
        found.append(Section(name, tuple(measure_of(metric).title for metric in metrics), lines))
    return found


def columns(summary: Summary) -> tuple[str, ...]:
    """Give the headings of the table of differences."""
    return ("Row", *(("Baseline",) if summary["within"] else ()), *_COLUMNS)


def differences(summary: Summary, metric: str) -> list[tuple[str, ...]]:
    """Lay one figure out with all that is known of it, a line for every row; see :func:`columns`."""
    style = measure_of(metric).style
    return [(*_names(summary, row), *_details(summary["findings"][metric][row], style)) for row in summary["rows"]]


def metric_heading(metric: str) -> str:
    """Name a figure with its test set.

    Example:
        >>> metric_heading("unbiased/map_cosine")
        'unbiased: Map cosine'
    """
    return f"{metric.rpartition('/')[0]}: {measure_of(metric).title}"


def exploratory_warning(summary: Summary) -> str:
    """Say that an ablation is exploratory; nothing if it is not."""
    if not summary["exploratory"]:
        return ""
    return (
        f"Exploratory: not every row has {ENOUGH_SEEDS} seeds to compare (the fewest is {summary['fewest']}); "
        "what it says is a guess to be tested with new seeds."
    )


def baseline_description(summary: Summary) -> str:
    """Say what rows are compared with."""
    if not summary["within"]:
        return summary["baseline"]
    same = f"the baseline of the same {' and '.join(short_names(summary['within']).values())}"
    return f"{same}, or {summary['baseline']} where there is none" if summary["elsewhere"] else same


def legend(summary: Summary) -> str:
    """Say how to read the tables."""
    return (
        "Mean over seeds ± half of its 95 % interval (t). Better, worse: the difference from "
        f"{baseline_description(summary)}, paired by seed, has p < 0.05 in a paired t-test after Holm's correction "
        "over the rows; all else is inside the noise."
    )


#: How to read the last figure of a difference.
POWER = (
    "Pairs for 80 % power: so many find an effect of the size seen four times in five, at the level that Holm's "
    "correction leaves to the row."
)


def unfinished(summary: Summary) -> list[str]:
    """Name the trials that say nothing, without their reasons."""
    found = []
    for row, trials in summary["trials"].items():
        if trials["failed"]:
            found.append(f"{row}: failed with seed {', '.join(str(one['seed']) for one in trials['failed'])}")
        if trials["missing"]:
            found.append(f"{row}: not run with seed {', '.join(map(str, trials['missing']))}")
    return found


def _cell(summary: Summary, metric: str, row: str) -> Cell | None:
    found, style = summary["findings"][metric][row], measure_of(metric).style
    figure = found["figure"]
    if figure["mean"] is None:
        return None
    half = "" if figure["high"] is None else f"± {format_width(figure['high'] - figure['mean'], style)}"
    n = figure["n"] if figure["n"] != summary["trials"][row]["done"] else None
    return Cell(format_value(figure["mean"], style), half, found["verdict"], n)


def _names(summary: Summary, row: str) -> tuple[str, ...]:
    return (row, summary["baselines"][row]) if summary["within"] else (row,)


def _details(found: Finding, style: Style) -> tuple[str, ...]:
    figure, difference = found["figure"], found["difference"]
    mean = NONE if figure["mean"] is None else format_value(figure["mean"], style)
    deviation = NONE if figure["deviation"] is None else format_width(figure["deviation"], style)
    if difference is None or difference["mean"] is None:
        return (NONE if difference is None else "0", mean, deviation, *[NONE] * 5, found["verdict"])
    pairs = str(difference["n"]) + (f" ({difference['unpaired']} left out)" if difference["unpaired"] else "")
    low, high = difference["low"], difference["high"]
    interval = NONE
    if low is not None and high is not None:
        interval = f"{format_difference(low, style)} to {format_difference(high, style)}"
    effect, needed = difference["effect"], difference["seeds_needed"]
    return (
        pairs,
        mean,
        deviation,
        format_difference(difference["mean"], style),
        interval,
        NONE if difference["p_holm"] is None else format_p(difference["p_holm"]),
        NONE if effect is None else format_effect(effect),
        NONE if needed is None else f"{needed:,}",
        found["verdict"],
    )
