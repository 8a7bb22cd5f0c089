"""What was measured, as tables: on the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from rich.table import Table

from .setting import Row

Kind = Literal["text", "count", "fine", "milli", "share", "spread", "verdict"]


class Column(NamedTuple):
    """One column: its heading, the key of a row, and how the value is written."""

    heading: str
    key: str
    kind: Kind = "text"


class Layout(NamedTuple):
    """Title and columns of a section."""

    title: str
    columns: tuple[Column, ...]


_PRECISION, _BATCH = Column("precision", "precision"), Column("batch", "batch", "count")
_WHAT = (_PRECISION, _BATCH, Column("variant", "variant"))

LAYOUTS = {
    "steps": Layout(
        "One step on a resident batch",
        (
            *_WHAT,
            Column("seconds", "seconds", "fine"),
            Column("images/s", "images_per_second", "count"),
            Column("to CE+KD", "ratio", "spread"),
            Column("to student alone", "to_floor", "spread"),
        ),
    ),
    "epochs": Layout(
        "Whole epochs, loader, log and checkpoints included",
        (
            *_WHAT,
            Column("steps", "steps", "count"),
            Column("seconds", "seconds", "fine"),
            Column("of it validation", "validation_seconds", "fine"),
            Column("images/s", "images_per_second", "count"),
            Column("to CE", "to_ce", "spread"),
            Column("to CE, validated", "to_ce_validated", "spread"),
            Column("images/s of bare", "of_bare", "spread"),
            Column("the same, validated", "of_bare_validated", "spread"),
            Column("step to bare step", "overhead", "spread"),
            Column("cache hits", "teacher_cache_hits", "fine"),
        ),
    ),
    "loader": Layout(
        "The data path alone: crop, mirror, float",
        (
            Column("path", "path"),
            _BATCH,
            Column("seconds a batch", "seconds", "milli"),
            Column("microseconds an image", "microseconds_per_image", "fine"),
            Column("ratio", "ratio", "spread"),
            _PRECISION,
            Column("of a CE step", "of_ce_step", "spread"),
            Column("of a step with the term", "of_term_step", "spread"),
        ),
    ),
    "memory": Layout(
        "Peak memory of a process",
        (
            *_WHAT,
            Column("of", "what"),
            Column("peak MiB", "peak_mib", "count"),
            Column("before the first step", "before_mib", "count"),
            Column("to CE+KD", "ratio", "spread"),
            Column("what is added, to CE+KD", "added_ratio", "spread"),
            Column("cache hits", "teacher_cache_hits", "fine"),
        ),
    ),
    "growth": Layout(
        "The term at final against CE+KD, as one size grows",
        (
            Column("axis", "axis"),
            Column("value", "value"),
            _PRECISION,
            Column("CE+KD seconds", "reference_seconds", "fine"),
            Column("with the term", "seconds", "fine"),
            Column("ratio", "ratio", "spread"),
            Column("CE+KD peak MiB", "reference_peak_mib", "count"),
            Column("with the term", "peak_mib", "count"),
            Column("ratio", "peak_ratio", "fine"),
        ),
    ),
    "ddp": Layout(
        "An epoch's training by one process and by two",
        (
            Column("processes", "processes", "count"),
            Column("threads each", "threads", "count"),
            Column("images a step", "batch", "count"),
            _PRECISION,
            Column("seconds", "seconds", "fine"),
            Column("images/s", "images_per_second", "count"),
            Column("to one process", "ratio", "spread"),
            Column("peak MiB of the first", "peak_mib", "count"),
        ),
    ),
    "evaluation": Layout(
        "Maps at final and metrics, against the forward passes of the same networks",
        (
            Column("networks", "networks"),
            Column("images", "images", "count"),
            _PRECISION,
            _BATCH,
            Column("forward passes, seconds", "forward_seconds", "fine"),
            Column("evaluation, seconds", "seconds", "fine"),
            Column("images/s, each network's counted", "images_per_second", "count"),
            Column("ratio", "ratio", "spread"),
        ),
    ),
    "start": Layout(
        "From the command to its first step",
        (Column("what", "what"), Column("seconds", "seconds", "spread"), Column("share", "share", "share")),
    ),
    "profile": Layout(
        "Operators of one step of CE+KD+Grad-CAM++ final, by their own time",
        (
            Column("operator", "operator"),
            _PRECISION,
            _BATCH,
            Column("calls", "calls", "count"),
            Column("milliseconds", "milliseconds", "fine"),
            Column("share", "share", "share"),
        ),
    ),
    "figures": Layout(
        "Key figures and their bounds",
        (
            Column("figure", "figure"),
            _PRECISION,
            _BATCH,
            Column("measured", "value", "spread"),
            Column("bound", "bound"),
            Column("holds", "holds", "verdict"),
        ),
    ),
}


def cell(value: object, kind: Kind) -> str:
    """Write one value; nothing where there is none.

    Example:
        >>> cell({"median": 1.0061, "low": 0.9812, "high": 1.05}, "spread"), cell(1234.5, "count"), cell(None, "fine")
        ('1.006 (0.981-1.050)', '1234', '')
    """
    if value is None:
        return ""
    if isinstance(value, dict):
        return f"{value['median']:.3f} ({value['low']:.3f}-{value['high']:.3f})"
    if kind == "verdict":
        return "yes" if value else "no"
    if isinstance(value, int | float):
        formats = {"count": ".0f", "fine": ".3f", "milli": ".5f", "share": ".1%", "spread": ".3f"}
        return format(value, formats[kind]) if kind in formats else str(value)
    return str(value)


def table_rows(section: str, rows: Sequence[Row]) -> list[list[str]]:
    """Write the cells of a section's table, row by row."""
    columns = LAYOUTS[section].columns
    return [[cell(row.get(column.key), column.kind) for column in columns] for row in rows]


def rich_table(section: str, rows: Sequence[Row]) -> Table:
    """Make the table for a terminal."""
    layout = LAYOUTS[section]
    table = Table(title=layout.title, title_justify="left")
    for column in layout.columns:
        table.add_column(column.heading, justify="left" if column.kind == "text" else "right")
    for cells in table_rows(section, rows):
        table.add_row(*cells)
    return table


def markdown_table(section: str, rows: Sequence[Row]) -> str:
    """Write the table in Markdown, without its title."""
    columns = LAYOUTS[section].columns
    lines = [[column.heading for column in columns], ["---" if c.kind == "text" else "---:" for c in columns]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [*lines, *table_rows(section, rows)])
