"""A record as text: the verdict for a terminal, and every figure in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from distill.files import write_text
from distill.metrics.names import METRIC_INFO, Better
from distill.report.evaluation.record import EvaluationRecord
from distill.report.evaluation.table import (
    VERDICT,
    Cell,
    FigureGroup,
    Row,
    Section,
    columns,
    format_value,
    group_figures,
    make_cell,
    sections,
)

#: As much of the verdict as a terminal has room for.
_SHORT = VERDICT[:5]
_ARROWS: dict[Better, str] = {"higher": "↑", "lower": "↓", "neither": ""}
_Compared: TypeAlias = Literal["map_cosine", "map_cosine_floor"]
#: What is told of agreement under explainers that no network was trained on.
_COMPARED: tuple[_Compared, ...] = ("map_cosine", "map_cosine_floor")
_LEGEND = (
    "↑ higher is better, ↓ lower is better. In parentheses: the 95 % interval over images, and the number of images "
    "where it is not all of them. Bold: ahead of every other student by more than noise. `distill list metrics` says "
    "what each figure is.\n"
)


def table_rows(record: EvaluationRecord) -> tuple[list[str], list[list[str]]]:
    """Give header and rows as plain text, for a terminal; the best of a column has a star.

    Convention:
        - The first five figures of the verdict only: all of them stand on the page, and all figures in Markdown.

    Returns:
        The header, and a row for every test set and network.
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
    """Write every figure in Markdown, a table for each test set; see :func:`distill.report.save_table`.

    Convention:
        - A row is a figure, a column a network; figures that were measured nowhere are left out. Agreement under
          held-out explainers stands below.
        - Bold is the best of the networks other than the reference and its second training, where it is ahead of each
          of them by more than noise.
    """
    groups = group_figures(record)
    blocks = [_markdown_set(record, section, i, groups) for i, section in enumerate(sections(record))]
    return "\n".join([*blocks, _LEGEND])


def save_table(record: EvaluationRecord, path: Path | str) -> Path:
    """Write every figure as a Markdown file; it appears whole or not at all."""
    return write_text(Path(path), markdown_tables(record))


def _markdown_set(record: EvaluationRecord, section: Section, number: int, groups: Sequence[FigureGroup]) -> str:
    names = [_escape(_name(row)) for row in section.rows]
    lines = [["Figure", "", *names], ["---", "---", *["---:"] * len(names)]]
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
    even = "" if share is None else f"; an even map has {format_value(share, 'percent')} in the object"
    heading = f"**{_escape(section.name)}** (n = {section.n:,}{even})\n"
    return "\n".join([heading, *("| " + " | ".join(line) + " |" for line in lines)]) + "\n"


def _held_out(record: EvaluationRecord, set_name: str) -> list[str]:
    networks = record["sets"][set_name]["networks"].values()
    return list(dict.fromkeys(method for scores in networks for method in scores["held_out"]))


def _held_out_cells(record: EvaluationRecord, section: Section, method: str, key: _Compared) -> list[str]:
    networks = record["sets"][section.name]["networks"]
    explained = [networks[row.network]["held_out"].get(method) for row in section.rows]
    found = [None if one is None else one[key] for one in explained]
    if not any(found):
        return []
    return ["–" if one is None else _bold(make_cell(one, "number", section.n)) for one in found]


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
