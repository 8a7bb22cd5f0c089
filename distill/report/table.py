"""The verdict table: a record as rows of text, the same for the terminal, for Markdown and for the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distill.report.record import EvaluationRecord, Measured, NetworkScores

Style = Literal["percent", "cosine"]
Metric = Literal["accuracy", "agreement", "map_cosine", "energy_in_object"]

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Column:
    """A metric as it is shown; more is better in all of them."""

    key: Metric
    title: str
    style: Style
    about: str


COLUMNS = (
    Column("accuracy", "Accuracy", "percent", "share of images whose first choice is the label"),
    Column("agreement", "Agreement", "percent", "share of images on which it chooses the same class as the reference"),
    Column(
        "map_cosine",
        "Map cosine",
        "cosine",
        "how alike its map and the reference's are: 1 is the same map; even unrelated maps are far above 0",
    ),
    Column(
        "energy_in_object",
        "In object",
        "percent",
        "share of its map that lies on the object; an even map has what the object covers of the image",
    ),
)


@dataclass(frozen=True)
class Cell:
    """One figure; ``n`` is set only where it is fewer than the images of the set."""

    text: str
    value: float | None
    best: bool = False
    n: int | None = None


@dataclass(frozen=True)
class Row:
    """One network on one test set."""

    network: str
    is_reference: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Section:
    """The rows of one test set; ``object_share`` is what an even map would have in the object."""

    name: str
    n: int
    object_share: float | None
    rows: tuple[Row, ...]


def format_value(value: float, style: Style) -> str:
    """Print a figure as the table does.

    Example:
        >>> format_value(0.8314, "percent"), format_value(0.8314, "cosine")
        ('83.1%', '0.831')
    """
    return f"{value * 100:.1f}%" if style == "percent" else f"{value:.3f}"


def sections(record: EvaluationRecord) -> tuple[Section, ...]:
    """Lay a record out as the table, the best of every column marked.

    Convention:
        - The best is sought among the networks other than the reference, by what is printed; it is marked only
          where there are at least two of them and they are not all equal.
    """
    return tuple(
        Section(name, entry["n"], entry["object_share"], _rows(record, entry["networks"], entry["n"]))
        for name, entry in record["sets"].items()
    )


def table_rows(record: EvaluationRecord) -> tuple[list[str], list[list[str]]]:
    """Give header and rows as plain text, for a terminal; the best of a column has a star.

    Returns:
        The header, and a row for every test set and network.
    """
    header = ["Test set", "Network", *(column.title for column in COLUMNS)]
    rows = [
        [f"{section.name} (n = {section.n:,})", _name(row), *(_plain(cell) for cell in row.cells)]
        for section in sections(record)
        for row in section.rows
    ]
    return header, rows


def markdown_table(record: EvaluationRecord) -> str:
    """Write the table in Markdown; the best of a column is bold."""
    lines = [
        ["Test set", "Network", *(column.title for column in COLUMNS)],
        ["---", "---", *["---:"] * len(COLUMNS)],
        *(
            [_escape(f"{section.name} (n = {section.n:,})"), _escape(_name(row)), *(_bold(cell) for cell in row.cells)]
            for section in sections(record)
            for row in section.rows
        ),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _rows(record: EvaluationRecord, networks: dict[str, NetworkScores], n: int) -> tuple[Row, ...]:
    reference = record["reference"]
    best = {column.key: _best(column, networks, reference) for column in COLUMNS}
    return tuple(
        Row(
            name,
            name == reference,
            tuple(_cell(scores[c.key], c, n, name == reference, best[c.key]) for c in COLUMNS),
        )
        for name, scores in networks.items()
    )


def _best(column: Column, networks: dict[str, NetworkScores], reference: str | None) -> str | None:
    entries = [scores[column.key] for name, scores in networks.items() if name != reference]
    values = [entry["value"] for entry in entries if entry is not None and entry["value"] is not None]
    printed = {format_value(value, column.style) for value in values}
    return format_value(max(values), column.style) if len(printed) > 1 else None


def _cell(entry: Measured | None, column: Column, n: int, is_reference: bool, best: str | None) -> Cell:
    if entry is None:
        itself = is_reference and column.key in ("agreement", "map_cosine")
        return Cell("–" if itself else NOT_MEASURED, None)
    if entry["value"] is None:
        return Cell("no image left", None, n=0)
    text = format_value(entry["value"], column.style)
    return Cell(text, entry["value"], text == best and not is_reference, entry["n"] if entry["n"] != n else None)


def _name(row: Row) -> str:
    return f"{row.network} (reference)" if row.is_reference else row.network


def _plain(cell: Cell) -> str:
    return cell.text + (" *" if cell.best else "") + _count(cell)


def _bold(cell: Cell) -> str:
    return (f"**{cell.text}**" if cell.best else cell.text) + _count(cell)


def _count(cell: Cell) -> str:
    return "" if cell.n is None else f" (n = {cell.n:,})"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
