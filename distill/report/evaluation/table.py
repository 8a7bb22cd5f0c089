"""Tables of an evaluation: the record as rows of cells, for the terminal, Markdown and the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from distill.metrics.names import GROUPS, METRIC_INFO, Better, Style
from distill.report.common.numbers import format_interval, format_value
from distill.report.evaluation.comparisons import best, students
from distill.report.evaluation.record import DIGITS, EvaluationRecord, Measured

#: The figures of the summary table; all others are in a separate table.
SUMMARY_FIGURES = ("accuracy", "agreement", "map_cosine", "energy_in_object", "adcc", "deletion_auc", "insertion_auc")
NOT_MEASURED = "not measured"
#: Figures outside the group "agreement" that compare with the reference; the reference has no value.
_RELATIVE = ("agreement", "output_kl", "win_rate")


@dataclass(frozen=True)
class Column:
    """A figure as a column: its name, title, style, description and direction."""

    key: str
    title: str
    style: Style
    about: str
    better: Better


@dataclass(frozen=True)
class Cell:
    """One figure with its interval; ``n`` is set only if it is fewer than the images of the set.

    ``floor`` and ``ceiling`` are set for the map cosine: the value of maps of different images, and of a second
    training of the reference.
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
    """One network on one test set; ``role`` is ``reference``, ``ceiling`` or empty."""

    network: str
    role: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Section:
    """The rows of one test set; ``object_share`` is the share of a uniform map in the object."""

    name: str
    n: int
    object_share: float | None
    rows: tuple[Row, ...]


def column(key: str) -> Column:
    """Return the column of a figure."""
    measure = METRIC_INFO[key]
    return Column(key, measure.title, measure.style, measure.about, measure.better)


def columns(record: EvaluationRecord) -> tuple[Column, ...]:
    """Return the columns of the summary table that were measured for any network on any test set."""
    return tuple(column(key) for key in SUMMARY_FIGURES if was_measured(record, key))


def left_out(record: EvaluationRecord) -> list[str]:
    """Return the titles of the figures of the summary table that were not measured."""
    return [METRIC_INFO[key].title for key in SUMMARY_FIGURES if not was_measured(record, key)]


def was_measured(record: EvaluationRecord, key: str) -> bool:
    """Return whether any network has a figure on any test set."""
    networks = [scores for entry in record["sets"].values() for scores in entry["networks"].values()]
    return any(scores["figures"].get(key) is not None for scores in networks)


def sections(record: EvaluationRecord, shown: Sequence[Column] | None = None) -> tuple[Section, ...]:
    """Return the tables of a record, one section per test set, with the best value of every column marked.

    Convention:
        - The best is one of the networks other than the reference and the ceiling. It is marked only if it is better
          than each of them beyond the noise.

    Args:
        record: The record.
        shown: The columns; default: those of the summary table.
    """
    chosen = columns(record) if shown is None else shown
    return tuple(
        Section(name, entry["n"], entry["object_share"], _rows(record, name, chosen))
        for name, entry in record["sets"].items()
    )


def value_of(record: EvaluationRecord, set_name: str, network: str | None, key: str) -> float | None:
    """Return a figure; None if there is no such network or the figure was not measured."""
    scores = record["sets"][set_name]["networks"].get(network or "")
    measured = None if scores is None else scores["figures"].get(key)
    return None if measured is None else measured["value"]


def make_cell(measured: Measured, style: Style, n: int) -> Cell:
    """Return the cell of a figure that was measured on a set of ``n`` images."""
    if measured["value"] is None:
        return Cell("no image left", None, n=0, excluded=measured["excluded"])
    low, high = measured["low"], measured["high"]
    return Cell(
        format_value(measured["value"], style, digits=DIGITS),
        measured["value"],
        low,
        high,
        "" if low is None or high is None else format_interval(low, high, style, digits=DIGITS),
        n=measured["n"] if measured["n"] != n else None,
        excluded=measured["excluded"],
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
    measured = entry["networks"][network]["figures"].get(shown.key)
    if measured is None:
        relative = shown.key in _RELATIVE or METRIC_INFO[shown.key].group == "agreement"
        return Cell("–" if network == record["reference"] and relative else NOT_MEASURED, None)
    cell = replace(make_cell(measured, shown.style, entry["n"]), best=network == winner)
    if shown.key != "map_cosine":
        return cell
    return replace(
        cell,
        floor=value_of(record, set_name, network, "map_cosine_floor"),
        ceiling=value_of(record, set_name, record["ceiling"], "map_cosine"),
    )


#: Descriptions of the directions of figures.
DIRECTIONS = {"higher": "higher is better", "lower": "lower is better", "neither": "neither end is better"}


@dataclass(frozen=True)
class FigureRow:
    """One figure of all networks on one test set."""

    column: Column
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class FigureGroup:
    """One group of figures: those that were measured, the titles of the others, and the values by test set."""

    question: str
    columns: tuple[Column, ...]
    missing: tuple[str, ...]
    sets: tuple[tuple[str, int, tuple[FigureRow, ...]], ...]


def group_figures(record: EvaluationRecord) -> list[FigureGroup]:
    """Return every figure by group; figures that were not measured are only listed."""
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
