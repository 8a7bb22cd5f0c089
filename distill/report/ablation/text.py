"""A summary as text: Markdown for a page of its own or a README, CSV for a program."""

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


def markdown_table(summary: Summary) -> str:
    """Write the summary in Markdown: the means of every test set, then the differences of every figure."""
    blocks = [f"**{exploratory_warning(summary)}**"] if summary["exploratory"] else []
    mark = " (exploratory)" if summary["exploratory"] else ""
    for section in sections(summary):
        lines = [
            (line.row, str(line.seeds), *(NONE if cell is None else _bold(cell) for cell in line.cells))
            for line in section.lines
        ]
        blocks.append(_grid((section.name + mark, "Seeds", *section.titles), lines))
    blocks.append(_escape(f"{legend(summary)} {POWER}"))
    for metric in summary["metrics"]:
        blocks.append(_grid((metric_heading(metric) + mark, *columns(summary)[1:]), differences(summary, metric)))
    if left := unfinished(summary):
        blocks.append("Without a result: " + _escape("; ".join(left)) + ".")
    return "\n\n".join(blocks) + "\n"


def csv_table(summary: Summary) -> str:
    """Write every number of the summary, a line for every figure and row, in the units of the record."""
    spread, difference = list(Spread.__annotations__), list(Difference.__annotations__)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = [f"difference_{key}" if key in spread else key for key in difference]
    writer.writerow(["set", "figure", "row", "baseline", *spread, *head, "verdict", "exploratory"])
    for metric, rows in summary["findings"].items():
        where, _, figure = metric.rpartition("/")
        for row in summary["rows"]:
            found = rows[row]
            numbers = [found["figure"][key] for key in spread]  # type: ignore[literal-required]
            compared = [found["difference"][key] if found["difference"] else None for key in difference]  # type: ignore[literal-required]
            shown = [_raw(value) for value in (*numbers, *compared)]
            against = summary["baselines"][row]
            writer.writerow(
                [where, figure, row, against, *shown, found["verdict"], str(summary["exploratory"]).lower()]
            )
    return text.getvalue()


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
