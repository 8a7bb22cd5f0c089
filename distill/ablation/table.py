"""A summary as tables of text, the same for the terminal, for Markdown and for the page."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from distill.ablation.findings import Difference, Finding, Spread, Verdict
from distill.ablation.numbers import format_difference, format_effect, format_p, format_value, format_width
from distill.ablation.summary import ENOUGH_SEEDS, Summary, measure_of
from distill.measures import Style

NONE = "–"
#: What is said of a row where it stands out; a row without such a word is inside the noise.
CLAIMS: tuple[Verdict, ...] = ("better", "worse", "different")
#: Heading of every column of the table of differences.
COLUMNS = (
    "Row",
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
            Line(row, summary["trials"][row]["done"], tuple(_cell(summary, metric, row) for metric in metrics))
            for row in summary["rows"]
        )
        found.append(Section(name, tuple(measure_of(metric).title for metric in metrics), lines))
    return found


def differences(summary: Summary, metric: str) -> list[tuple[str, ...]]:
    """Lay one figure out with all that is known of it, a line for every row; see ``COLUMNS``."""
    style = measure_of(metric).style
    return [(row, *_details(summary["findings"][metric][row], style)) for row in summary["rows"]]


def heading(metric: str) -> str:
    """Name a figure with its test set.

    Example:
        >>> heading("unbiased/map_cosine")
        'unbiased: Map cosine'
    """
    return f"{metric.rpartition('/')[0]}: {measure_of(metric).title}"


def warning(summary: Summary) -> str:
    """Say that an ablation is exploratory; nothing if it is not."""
    if not summary["exploratory"]:
        return ""
    fewest = min(row["done"] for row in summary["trials"].values())
    return (
        f"Exploratory: fewer than {ENOUGH_SEEDS} seeds for every row (the fewest is {fewest}); "
        "what it says is a guess to be tested with new seeds."
    )


def legend(summary: Summary) -> str:
    """Say how to read the tables."""
    return (
        f"Mean over seeds ± half of its 95 % interval (t). Better, worse: the difference from {summary['baseline']}, "
        "paired by seed, has p < 0.05 in a paired t-test after Holm's correction over the rows; all else is inside the "
        "noise."
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


def markdown_table(summary: Summary) -> str:
    """Write the summary in Markdown: the means of every test set, then the differences of every figure."""
    blocks = [f"**{warning(summary)}**"] if summary["exploratory"] else []
    mark = " (exploratory)" if summary["exploratory"] else ""
    for section in sections(summary):
        lines = [
            (line.row, str(line.seeds), *(NONE if cell is None else _bold(cell) for cell in line.cells))
            for line in section.lines
        ]
        blocks.append(_grid((section.name + mark, "Seeds", *section.titles), lines))
    blocks.append(_escape(legend(summary)))
    for metric in summary["metrics"]:
        blocks.append(_grid((heading(metric) + mark, *COLUMNS[1:]), differences(summary, metric)))
    if left := unfinished(summary):
        blocks.append("Without a result: " + _escape("; ".join(left)) + ".")
    return "\n\n".join(blocks) + "\n"


def csv_table(summary: Summary) -> str:
    """Write every number of the summary, a line for every figure and row, in the units of the record."""
    spread, difference = list(Spread.__annotations__), list(Difference.__annotations__)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = [f"difference_{key}" if key in spread else key for key in difference]
    writer.writerow(["set", "figure", "row", *spread, *head, "verdict", "exploratory"])
    for metric, rows in summary["findings"].items():
        where, _, figure = metric.rpartition("/")
        for row in summary["rows"]:
            found = rows[row]
            numbers = [found["figure"][key] for key in spread]  # type: ignore[literal-required]
            compared = [(found["difference"] or {}).get(key) for key in difference]
            shown = [_raw(value) for value in (*numbers, *compared)]
            writer.writerow([where, figure, row, *shown, found["verdict"], str(summary["exploratory"]).lower()])
    return text.getvalue()


def _cell(summary: Summary, metric: str, row: str) -> Cell | None:
    found, style = summary["findings"][metric][row], measure_of(metric).style
    figure = found["figure"]
    if figure["mean"] is None:
        return None
    half = "" if figure["high"] is None else f"± {format_width(figure['high'] - figure['mean'], style)}"
    n = figure["n"] if figure["n"] != summary["trials"][row]["done"] else None
    return Cell(format_value(figure["mean"], style), half, found["verdict"], n)


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


def _bold(cell: Cell) -> str:
    claim = f" **{cell.verdict}**" if cell.verdict in CLAIMS else ""
    count = "" if cell.n is None else f" (n = {cell.n})"
    return f"{cell.text} {cell.spread}".strip() + claim + count


def _grid(header: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    rows = [header, ("---", *["---:"] * (len(header) - 1)), *lines]
    return "\n".join("| " + " | ".join(_escape(text) for text in row) + " |" for row in rows)


def _raw(value: float | int | None) -> str:
    return "" if value is None else f"{value:.9g}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
