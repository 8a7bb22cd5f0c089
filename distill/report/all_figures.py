"""Every figure of an evaluation by group, with what it means."""

from __future__ import annotations

from dataclasses import dataclass

from distill.measures import GROUPS, MEASURES
from distill.report.record import EvaluationRecord
from distill.report.table import Cell, Column, column, sections, was_measured

#: What is better, in words.
DIRECTIONS = {"higher": "higher is better", "lower": "lower is better", "neither": "neither end is better"}


@dataclass(frozen=True)
class Figure:
    """One figure of all networks on one test set."""

    column: Column
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Group:
    """The figures that answer one question: what they mean, and their values by test set."""

    question: str
    columns: tuple[Column, ...]
    missing: tuple[str, ...]
    sets: tuple[tuple[str, int, tuple[Figure, ...]], ...]


def group_figures(record: EvaluationRecord) -> list[Group]:
    """Lay every figure out; what was measured nowhere is only named."""
    groups = []
    for key, question in GROUPS.items():
        names = [name for name, measure in MEASURES.items() if measure.group == key]
        shown = tuple(column(name) for name in names if was_measured(record, name))
        missing = tuple(MEASURES[name].title for name in names if not was_measured(record, name))
        groups.append(
            Group(
                question,
                shown,
                missing,
                tuple(
                    (
                        section.name,
                        section.n,
                        tuple(Figure(one, tuple(row.cells[i] for row in section.rows)) for i, one in enumerate(shown)),
                    )
                    for section in sections(record, shown)
                ),
            )
        )
    return groups
