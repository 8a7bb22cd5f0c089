"""The verdict table as plain text and as Markdown."""

from __future__ import annotations

from distill.report.record import EvaluationRecord
from distill.report.table import Cell, Row, columns, sections


def table_rows(record: EvaluationRecord) -> tuple[list[str], list[list[str]]]:
    """Give header and rows as plain text, for a terminal; the best of a column has a star.

    Returns:
        The header, and a row for every test set and network.
    """
    header = ["Test set", "Network", *(shown.title for shown in columns(record))]
    rows = [
        [f"{section.name} (n = {section.n:,})", _name(row), *(_plain(cell) for cell in row.cells)]
        for section in sections(record)
        for row in section.rows
    ]
    return header, rows


def markdown_table(record: EvaluationRecord) -> str:
    """Write the table in Markdown, with intervals; the best of a column is bold."""
    shown = columns(record)
    lines = [
        ["Test set", "Network", *(one.title for one in shown)],
        ["---", "---", *["---:"] * len(shown)],
        *(
            [_escape(f"{section.name} (n = {section.n:,})"), _escape(_name(row)), *(_bold(cell) for cell in row.cells)]
            for section in sections(record)
            for row in section.rows
        ),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _name(row: Row) -> str:
    return f"{row.network} ({row.role})" if row.role else row.network


def _plain(cell: Cell) -> str:
    return cell.text + (" *" if cell.best else "") + _count(cell)


def _bold(cell: Cell) -> str:
    interval = f" ({cell.interval})" if cell.interval else ""
    return (f"**{cell.text}**" if cell.best else cell.text) + interval + _count(cell)


def _count(cell: Cell) -> str:
    return "" if cell.n is None else f" (n = {cell.n:,})"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
