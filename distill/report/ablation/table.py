"""Tables of an ablation: the summary as rows of cells, for Markdown and for the page."""

from __future__ import annotations

from dataclasses import dataclass

from distill.config.dotted_keys import short_names
from distill.metrics.names import ACCURACY_MARGIN, Style
from distill.report.ablation.record import DIGITS, ENOUGH_SEEDS, Finding, Summary, Verdict, measure_of
from distill.report.common.numbers import (
    format_difference,
    format_effect,
    format_interval,
    format_p,
    format_value,
    format_width,
)

NONE = "–"
#: Verdicts that claim a difference from the baseline.
CLAIMS: tuple[Verdict, ...] = ("better", "worse", "different")
#: Why a figure of faithfulness is not compared.
INCOMPARABLE = f"not comparable, because the accuracy differs by more than {100 * ACCURACY_MARGIN:g} percentage points"
#: Headings of the table of differences, after those of the row and, if there are several baselines, its baseline.
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
    """One figure of one row: mean, half of its 95 % interval, verdict, and ``n`` if seeds are missing."""

    text: str
    spread: str
    verdict: Verdict
    n: int | None


@dataclass(frozen=True)
class Line:
    """One row of the ablation on one test set."""

    row: str
    is_baseline: bool
    seeds: int
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Section:
    """One test set: titles of the figures that were measured on it, and all rows."""

    name: str
    titles: tuple[str, ...]
    lines: tuple[Line, ...]


def sections(summary: Summary) -> list[Section]:
    """Return the tables of means, one section per test set, in the order of the figures."""
    tables = []
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
        tables.append(Section(name, tuple(measure_of(metric).title for metric in metrics), lines))
    return tables


def columns(summary: Summary) -> tuple[str, ...]:
    """Return the headings of the table of differences."""
    return ("Row", *(("Baseline",) if summary["within"] else ()), *_COLUMNS)


def differences(summary: Summary, metric: str) -> list[tuple[str, ...]]:
    """Return the table of differences of one figure, one line per row; see :func:`columns` for the headings."""
    style = measure_of(metric).style
    return [
        (
            row,
            *((summary["baselines"][row],) if summary["within"] else ()),
            *_details(summary["findings"][metric][row], style),
        )
        for row in summary["rows"]
    ]


def metric_heading(metric: str) -> str:
    """Return the name of a figure with its test set.

    Example:
        >>> metric_heading("unbiased/map_cosine")
        'unbiased: Map cosine'
    """
    return f"{metric.rpartition('/')[0]}: {measure_of(metric).title}"


def exploratory_warning(summary: Summary) -> str:
    """Return the warning that an ablation is exploratory; an empty string if it is not."""
    if not summary["exploratory"]:
        return ""
    return (
        f"Exploratory: not every row has {ENOUGH_SEEDS} seeds to compare (the fewest is {summary['fewest']}); "
        "its findings need to be confirmed with new seeds."
    )


def baseline_description(summary: Summary) -> str:
    """Return a description of what rows are compared with."""
    if not summary["within"]:
        return summary["baseline"]
    same = f"the baseline of the same {' and '.join(short_names(summary['within']).values())}"
    return f"{same}, or {summary['baseline']} where there is none" if summary["elsewhere"] else same


def legend(summary: Summary) -> str:
    """Return the explanation of the tables."""
    findings = [finding for by_row in summary["findings"].values() for finding in by_row.values()]
    few = "; 2 seeds: no interval" if any(finding["figure"]["n"] == 2 for finding in findings) else ""
    incomparable = ""
    if any(finding["verdict"] == "not comparable" for finding in findings):
        incomparable = (
            f" Deletion, insertion and the other figures of faithfulness are {INCOMPARABLE}: a network that is nearly "
            "always wrong has low probabilities whatever its maps show."
        )
    return (
        f"Mean over seeds ± half of its 95 % interval (t{few}). Better, worse: the difference from "
        f"{baseline_description(summary)}, paired by seed, has p < 0.05 in a paired t-test after Holm's correction "
        f"over the rows; all else is inside the noise.{incomparable}"
    )


#: Explanation of the column "Pairs for 80 % power".
POWER = (
    "Pairs for 80 % power: the number of pairs of seeds that detect an effect of the observed size with a power of "
    "80 %, at the level that Holm's correction leaves to the row."
)


def unfinished(summary: Summary) -> list[str]:
    """List the rows with failed or missing trials and their seeds, without the reasons."""
    texts = []
    for row, trials in summary["trials"].items():
        if trials["failed"]:
            texts.append(f"{row}: failed with seed {', '.join(str(one['seed']) for one in trials['failed'])}")
        if trials["missing"]:
            texts.append(f"{row}: not run with seed {', '.join(map(str, trials['missing']))}")
    return texts


def _cell(summary: Summary, metric: str, row: str) -> Cell | None:
    finding, style = summary["findings"][metric][row], measure_of(metric).style
    figure = finding["figure"]
    if figure["mean"] is None:
        return None
    half = "" if figure["high"] is None else f"± {format_width(figure['high'] - figure['mean'], style, digits=DIGITS)}"
    n = figure["n"] if figure["n"] != summary["trials"][row]["done"] else None
    return Cell(format_value(figure["mean"], style, digits=DIGITS), half, finding["verdict"], n)


def _details(finding: Finding, style: Style) -> tuple[str, ...]:
    figure, difference = finding["figure"], finding["difference"]
    mean = NONE if figure["mean"] is None else format_value(figure["mean"], style, digits=DIGITS)
    deviation = NONE if figure["deviation"] is None else format_width(figure["deviation"], style, digits=DIGITS)
    if difference is None or difference["mean"] is None:
        return (NONE if difference is None else "0", mean, deviation, *[NONE] * 5, finding["verdict"])
    pairs = str(difference["n"]) + (f" ({difference['unpaired']} left out)" if difference["unpaired"] else "")
    low, high = difference["low"], difference["high"]
    interval = NONE
    if low is not None and high is not None:
        interval = format_interval(low, high, style, digits=DIGITS, signed=True)
    effect, needed = difference["effect"], difference["seeds_needed"]
    return (
        pairs,
        mean,
        deviation,
        format_difference(difference["mean"], style, digits=DIGITS),
        interval,
        NONE if difference["p_holm"] is None else format_p(difference["p_holm"]),
        NONE if effect is None else format_effect(effect),
        NONE if needed is None else f"{needed:,}",
        finding["verdict"],
    )
