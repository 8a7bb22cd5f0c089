"""The summary of an ablation as Markdown and as CSV."""

from __future__ import annotations

import csv
import io

from distill.report.ablation.record import Difference, Spread, Summary
from distill.report.ablation.table import (
    CLAIMS,
    NONE,
    POWER,
    Cell,
    columns,
    differences,
    exploratory_warning,
    legend,
    metric_heading,
    sections,
    unfinished,
)
from distill.report.common.markdown import escape_markdown, markdown_grid
from distill.untrusted import printable


def markdown_table(summary: Summary) -> str:
    """Return the summary in Markdown: the means of every test set, then the differences of every figure."""
    blocks = [f"**{exploratory_warning(summary)}**"] if summary["exploratory"] else []
    mark = " (exploratory)" if summary["exploratory"] else ""
    for section in sections(summary):
        lines = [
            (line.row, str(line.seeds), *(NONE if cell is None else _bold(cell) for cell in line.cells))
            for line in section.lines
        ]
        blocks.append(_table((section.name + mark, "Seeds", *section.titles), lines))
    blocks.append(escape_markdown(f"{legend(summary)} {POWER}"))
    for metric in summary["metrics"]:
        blocks.append(_table((metric_heading(metric) + mark, *columns(summary)[1:]), differences(summary, metric)))
    if rows := unfinished(summary):
        blocks.append("Without a result: " + escape_markdown("; ".join(rows)) + ".")
    return printable("\n\n".join(blocks) + "\n")


def csv_table(summary: Summary) -> str:
    """Return every number of the summary as CSV, one line per figure and row, in the units of the record."""
    spread, difference = list(Spread.__annotations__), list(Difference.__annotations__)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = [f"difference_{key}" if key in spread else key for key in difference]
    writer.writerow(["set", "figure", "row", "baseline", *spread, *head, "verdict", "exploratory"])
    for metric, rows in summary["findings"].items():
        where, _, figure = metric.rpartition("/")
        for row in summary["rows"]:
            finding = rows[row]
            numbers = [finding["figure"][key] for key in spread]  # type: ignore[literal-required]
            numbers += [finding["difference"][key] if finding["difference"] else None for key in difference]  # type: ignore[literal-required]
            texts = ["" if value is None else f"{value:.9g}" for value in numbers]
            baseline, exploratory = summary["baselines"][row], str(summary["exploratory"]).lower()
            writer.writerow([where, figure, row, baseline, *texts, finding["verdict"], exploratory])
    return printable(text.getvalue())


def _bold(cell: Cell) -> str:
    claim = f" **{cell.verdict}**" if cell.verdict in CLAIMS else ""
    count = "" if cell.n is None else f" (n = {cell.n})"
    return f"{cell.text} {cell.spread}".strip() + claim + count


def _table(header: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    first, *rest = ([escape_markdown(text) for text in row] for row in (header, *lines))
    return markdown_grid(first, rest)
