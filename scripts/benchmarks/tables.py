"""Tables of the measured sections, for the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from rich.table import Table

from .setting import Row

Kind = Literal["text", "count", "fine", "milli", "share", "spread", "verdict"]


class Column(NamedTuple):
    """One column: heading, key of a row, and format of the value."""

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
        "One step on a batch in memory",
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
            Column("of which validation", "validation_seconds", "fine"),
            Column("images/s", "images_per_second", "count"),
            Column("to CE", "to_ce", "spread"),
            Column("to CE, with validation", "to_ce_validated", "spread"),
            Column("images/s to bare steps", "of_bare", "spread"),
            Column("the same, with validation", "of_bare_validated", "spread"),
            Column("step to bare step", "overhead", "spread"),
            Column("cache hits", "teacher_cache_hits", "fine"),
        ),
    ),
    "loader": Layout(
        "The data path alone: crop, mirror, float",
        (
            Column("path", "path"),
            _BATCH,
            Column("seconds per batch", "seconds", "milli"),
            Column("microseconds per image", "microseconds_per_image", "fine"),
            Column("ratio", "ratio", "spread"),
            _PRECISION,
            Column("share of a CE step", "of_ce_step", "spread"),
            Column("share of a step with the term", "of_term_step", "spread"),
        ),
    ),
    "folders": Layout(
        "Images a second of a folder of photographs, two workers, 224 pixels",
        (
            Column("loader", "loader"),
            Column("file", "file"),
            _BATCH,
            Column("images per second", "images_per_second", "fine"),
            Column("of torchvision's ImageFolder", "ratio", "spread"),
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
            Column("growth from then on, to CE+KD", "added_ratio", "spread"),
            Column("cache hits", "teacher_cache_hits", "fine"),
        ),
    ),
    "growth": Layout(
        "The term at final compared with CE+KD, as one size grows",
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
        "Training epoch with one process and with two",
        (
            Column("processes", "processes", "count"),
            Column("threads per process", "threads", "count"),
            Column("images per step", "batch", "count"),
            _PRECISION,
            Column("seconds", "seconds", "fine"),
            Column("images/s", "images_per_second", "count"),
            Column("to one process", "ratio", "spread"),
            Column("peak MiB of the first process", "peak_mib", "count"),
        ),
    ),
    "evaluation": Layout(
        "Maps at final and metrics, compared with the forward passes of the same networks",
        (
            Column("networks", "networks"),
            Column("images", "images", "count"),
            _PRECISION,
            _BATCH,
            Column("forward passes, seconds", "forward_seconds", "fine"),
            Column("evaluation, seconds", "seconds", "fine"),
            Column("images/s, summed over the networks", "images_per_second", "count"),
            Column("ratio", "ratio", "spread"),
        ),
    ),
    "networks": Layout(
        "Networks of torchvision and timm, each its own teacher, at 96 pixels",
        (
            Column("network", "network"),
            Column("what", "what"),
            Column("compared with", "against"),
            _PRECISION,
            _BATCH,
            Column("the latter, seconds", "reference_seconds", "fine"),
            Column("seconds", "seconds", "fine"),
            Column("ratio", "ratio", "spread"),
        ),
    ),
    "allocator": Layout(
        "Allocator setting on and off",
        (
            Column("task", "task"),
            Column("images", "images", "count"),
            _BATCH,
            Column("setting", "setting"),
            Column("seconds", "seconds", "fine"),
            Column("to off", "ratio", "spread"),
            Column("kernel's CPU seconds", "system_seconds", "fine"),
            Column("page faults", "page_faults", "count"),
            Column("peak MiB", "peak_mib", "count"),
        ),
    ),
    "start": Layout(
        "Time from the command to the end of the first step",
        (Column("what", "what"), Column("seconds", "seconds", "spread"), Column("share", "share", "share")),
    ),
    "profile": Layout(
        "Operators of one step of CE+KD+Grad-CAM++ final, by self time",
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
    """Format one value; None gives an empty string.

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
    """Return the cells of a section's table by row."""
    columns = LAYOUTS[section].columns
    return [[cell(row.get(column.key), column.kind) for column in columns] for row in rows]


def rich_table(section: str, rows: Sequence[Row]) -> Table:
    """Return the table for a terminal."""
    layout = LAYOUTS[section]
    table = Table(title=layout.title, title_justify="left")
    for column in layout.columns:
        table.add_column(column.heading, justify="left" if column.kind == "text" else "right")
    for cells in table_rows(section, rows):
        table.add_row(*cells)
    return table


def markdown_table(section: str, rows: Sequence[Row]) -> str:
    """Return the table in Markdown, without its title."""
    columns = LAYOUTS[section].columns
    lines = [[column.heading for column in columns], ["---" if c.kind == "text" else "---:" for c in columns]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [*lines, *table_rows(section, rows)])
