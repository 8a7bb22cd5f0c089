"""The record of an evaluation as text: a short table for the terminal, and every figure in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from distill.files import write_text
from distill.metrics.names import METRIC_INFO, Better
from distill.report.common.markdown import escape_markdown, markdown_grid
from distill.report.common.numbers import format_value
from distill.report.evaluation.record import DIGITS, EvaluationRecord
from distill.report.evaluation.sentences import faithfulness_rule
from distill.report.evaluation.table import (
    SUMMARY_FIGURES,
    Cell,
    FigureGroup,
    Row,
    Section,
    columns,
    group_figures,
    make_cell,
    sections,
)
from distill.untrusted import printable

#: The figures that fit into a terminal.
_SHORT = SUMMARY_FIGURES[:5]
_ARROWS: dict[Better, str] = {"higher": "↑", "lower": "↓", "neither": ""}
_Compared: TypeAlias = Literal["map_cosine", "map_cosine_floor"]
#: The figures of the held-out explainers in the Markdown table.
_COMPARED: tuple[_Compared, ...] = ("map_cosine", "map_cosine_floor")
_LEGEND = (
    "↑ higher is better, ↓ lower is better. In parentheses: the 95 % interval over images, and the number of images "
    "if it is not all of them. Bold: better than every other student beyond the noise. `distill list metrics` explains "
    "the figures.\n"
)


def table_rows(record: EvaluationRecord) -> tuple[list[str], list[list[str]]]:
    """Return the first five figures of the summary table for the terminal; the best of a column has a star.

    Returns:
        The header, and one row per test set and network.
    """
    shown = [column for column in columns(record) if column.key in _SHORT]
    header = ["Test set", "Network", *(column.title for column in shown)]
    rows = [
        [f"{section.name} (n = {section.n:,})", _name(row), *(_plain(cell) for cell in row.cells)]
        for section in sections(record, shown)
        for row in section.rows
    ]
    return header, rows


def markdown_tables(record: EvaluationRecord) -> str:
    """Return every figure in Markdown, one table per test set; see :func:`distill.report.save_table`.

    Convention:
        - Rows are figures, columns are networks. Figures that were not measured are left out. The last rows are the
          agreement under held-out explainers.
        - The best of the networks other than the reference and the ceiling is bold if it is better than each of them
          beyond the noise.
    """
    groups = group_figures(record)
    blocks = [_markdown_set(record, section, i, groups) for i, section in enumerate(sections(record))]
    rule = faithfulness_rule(record).strip()
    return printable("\n".join([*blocks, *([f"{rule}\n"] if rule else []), _LEGEND]))


def save_table(record: EvaluationRecord, path: Path | str) -> Path:
    """Write every figure to a Markdown file, atomically."""
    return write_text(Path(path), markdown_tables(record))


def _markdown_set(record: EvaluationRecord, section: Section, number: int, groups: Sequence[FigureGroup]) -> str:
    names = [escape_markdown(_name(row)) for row in section.rows]
    lines = []
    for group in groups:
        _, _, figures = group.sets[number]
        lines += [
            [figure.column.title, _ARROWS[figure.column.better], *(_bold(cell) for cell in figure.cells)]
            for figure in figures
        ]
    lines += [
        [f"{METRIC_INFO[key].title}, {method}", _ARROWS[METRIC_INFO[key].better], *cells]
        for method in _held_out(record, section.name)
        for key in _COMPARED
        if any(cells := _held_out_cells(record, section, method, key))
    ]
    share = section.object_share
    text = "" if share is None else f"; a uniform map has {format_value(share, 'percent', digits=DIGITS)} in the object"
    heading = f"**{escape_markdown(section.name)}** (n = {section.n:,}{text})\n"
    return "\n".join([heading, markdown_grid(["Figure", "", *names], lines, left=2)]) + "\n"


def _held_out(record: EvaluationRecord, set_name: str) -> list[str]:
    networks = record["sets"][set_name]["networks"].values()
    return list(dict.fromkeys(method for scores in networks for method in scores["held_out"]))


def _held_out_cells(record: EvaluationRecord, section: Section, method: str, key: _Compared) -> list[str]:
    networks = record["sets"][section.name]["networks"]
    records = [networks[row.network]["held_out"].get(method) for row in section.rows]
    figures = [None if record is None else record[key] for record in records]
    if not any(figures):
        return []
    return ["–" if one is None else _bold(make_cell(one, "number", section.n)) for one in figures]


def _name(row: Row) -> str:
    return f"{row.network} ({row.role})" if row.role else row.network


def _plain(cell: Cell) -> str:
    return cell.text + (" *" if cell.best else "") + _count(cell)


def _bold(cell: Cell) -> str:
    interval = f" ({cell.interval})" if cell.interval else ""
    return (f"**{cell.text}**" if cell.best else cell.text) + interval + _count(cell)


def _count(cell: Cell) -> str:
    return "" if cell.n is None else f" (n = {cell.n:,})"
