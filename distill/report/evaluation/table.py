"""The tables of an evaluation: a record as rows of cells, for the terminal, Markdown and the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from distill.metrics.names import GROUPS, METRIC_INFO, Better, Style
from distill.report.evaluation.comparisons import best, students
from distill.report.evaluation.record import EvaluationRecord, Measured

#: The figures that the verdict is made of; all others stand in a table of their own.
VERDICT = ("accuracy", "agreement", "map_cosine", "energy_in_object", "adcc", "deletion_auc", "insertion_auc")
NOT_MEASURED = "not measured"
#: Figures that compare with the reference, beside those of the group of that name; it has none itself.
_RELATIVE = ("agreement", "output_kl", "win_rate")


@dataclass(frozen=True)
class Column:
    """A figure as it is shown."""

    key: str
    title: str
    style: Style
    about: str
    better: Better


@dataclass(frozen=True)
class Cell:
    """One figure with its interval; ``n`` is set only where it is fewer than the images of the set.

    ``floor`` and ``ceiling`` are set for the cosine of maps: what unrelated maps and a second reference have.
    """

    text: str
    value: float | None
    low: float | None = None
    high: float | None = None
    interval: str = ""
    best: bool = False
    n: int | None = None
    excluded: int = 0
    floor: float | None = None
    ceiling: float | None = None


@dataclass(frozen=True)
class Row:
    """One network on one test set; ``role`` is what it is to the others, if anything."""

    network: str
    role: str
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
        >>> format_value(0.8314, "percent"), format_value(0.8314, "number")
        ('83.1%', '0.831')
    """
    return (f"{value * 100:.1f}%" if style == "percent" else f"{value:.3f}").replace("-", "−")


def column(key: str) -> Column:
    """Describe a figure."""
    measure = METRIC_INFO[key]
    return Column(key, measure.title, measure.style, measure.about, measure.better)


def columns(record: EvaluationRecord) -> tuple[Column, ...]:
    """Give the figures of the verdict that were measured of any network on any test set."""
    return tuple(column(key) for key in VERDICT if was_measured(record, key))


def left_out(record: EvaluationRecord) -> list[str]:
    """Name the figures of the verdict that were not measured at all."""
    return [METRIC_INFO[key].title for key in VERDICT if not was_measured(record, key)]


def was_measured(record: EvaluationRecord, key: str) -> bool:
    """Say whether any network has a figure on any test set."""
    networks = [scores for entry in record["sets"].values() for scores in entry["networks"].values()]
    return any(scores["figures"].get(key) is not None for scores in networks)


def sections(record: EvaluationRecord, shown: Sequence[Column] | None = None) -> tuple[Section, ...]:
    """Lay a record out as the table, the best of every column marked.

    Convention:
        - The best is sought among the networks other than the reference and its second training. It is marked only
          where the comparisons say that it is ahead of each of them by more than noise.

    Args:
        record: What was measured.
        shown: The columns; those of the verdict by default.
    """
    chosen = columns(record) if shown is None else shown
    return tuple(
        Section(name, entry["n"], entry["object_share"], _rows(record, name, chosen))
        for name, entry in record["sets"].items()
    )


def value_of(record: EvaluationRecord, set_name: str, network: str | None, key: str) -> float | None:
    """Look a figure up; None where there is no such network or it was not measured."""
    scores = record["sets"][set_name]["networks"].get(network or "")
    found = None if scores is None else scores["figures"].get(key)
    return None if found is None else found["value"]


def make_cell(found: Measured, style: Style, n: int) -> Cell:
    """Print a figure that was measured on a set of ``n`` images."""
    if found["value"] is None:
        return Cell("no image left", None, n=0, excluded=found["excluded"])
    low, high = found["low"], found["high"]
    interval = "" if low is None or high is None else f"{_bare(low, style)} to {_bare(high, style)}"
    return Cell(
        format_value(found["value"], style),
        found["value"],
        low,
        high,
        interval,
        n=found["n"] if found["n"] != n else None,
        excluded=found["excluded"],
    )


def _rows(record: EvaluationRecord, set_name: str, shown: Sequence[Column]) -> tuple[Row, ...]:
    entry = record["sets"][set_name]
    roles = {record["reference"]: "reference", record["ceiling"]: "ceiling"}
    winners = {one.key: best(entry, one.key, students(record)) for one in shown}
    return tuple(
        Row(name, roles.get(name, ""), tuple(_cell(record, set_name, name, one, winners[one.key]) for one in shown))
        for name in entry["networks"]
    )


def _cell(record: EvaluationRecord, set_name: str, network: str, shown: Column, winner: str | None) -> Cell:
    entry = record["sets"][set_name]
    found = entry["networks"][network]["figures"].get(shown.key)
    if found is None:
        relative = shown.key in _RELATIVE or METRIC_INFO[shown.key].group == "agreement"
        return Cell("–" if network == record["reference"] and relative else NOT_MEASURED, None)
    cell = replace(make_cell(found, shown.style, entry["n"]), best=network == winner)
    if shown.key != "map_cosine":
        return cell
    return replace(
        cell,
        floor=value_of(record, set_name, network, "map_cosine_floor"),
        ceiling=value_of(record, set_name, record["ceiling"], "map_cosine"),
    )


def _bare(value: float, style: Style) -> str:
    return format_value(value, style).removesuffix("%")


#: What is better, in words.
DIRECTIONS = {"higher": "higher is better", "lower": "lower is better", "neither": "neither end is better"}


@dataclass(frozen=True)
class FigureRow:
    """One figure of all networks on one test set."""

    column: Column
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class FigureGroup:
    """The figures that answer one question: what they mean, and their values by test set."""

    question: str
    columns: tuple[Column, ...]
    missing: tuple[str, ...]
    sets: tuple[tuple[str, int, tuple[FigureRow, ...]], ...]


def group_figures(record: EvaluationRecord) -> list[FigureGroup]:
    """Lay every figure out; what was measured nowhere is only named."""
    groups = []
    for key, question in GROUPS.items():
        names = [name for name, measure in METRIC_INFO.items() if measure.group == key]
        shown = tuple(column(name) for name in names if was_measured(record, name))
        missing = tuple(METRIC_INFO[name].title for name in names if not was_measured(record, name))
        groups.append(
            FigureGroup(
                question,
                shown,
                missing,
                tuple(
                    (
                        section.name,
                        section.n,
                        tuple(
                            FigureRow(one, tuple(row.cells[i] for row in section.rows)) for i, one in enumerate(shown)
                        ),
                    )
                    for section in sections(record, shown)
                ),
            )
        )
    return groups
