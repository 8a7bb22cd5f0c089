"""Key figures and their bounds, read from the measured sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .networks import BATCHED_MAPS, MAPS, TERM_BY_AUTOGRAD
from .networks import TERM as NETWORK_TERM
from .pairs import Spread
from .recipes import WARM
from .setting import TERM_AT_FINAL, WITHOUT_TEACHER, Row

TERM_BOUNDS = {"float32": 1.05, "bf16": 1.10}
AT_LEAST_OF_BARE, WARM_TO_CE, OVERHEAD, MEMORY, START_SECONDS = 0.95, 1.08, 1.03, 1.05, 8.0
EVALUATION = 3.0
#: Bounds of the section `networks`: at most, and at least.
NETWORKS_MOST = {NETWORK_TERM: 1.05, TERM_BY_AUTOGRAD: 2.0, MAPS: 1.10}
NETWORKS_LEAST = {BATCHED_MAPS: 2.0}
#: The batch size to which the bound on the overhead applies.
OVERHEAD_BATCH = 128


def key_figures(sections: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Return the key figures of the sections that were measured."""
    return [
        *_steps(sections.get("steps", ())),
        *_epochs(sections.get("epochs", ())),
        *_memory(sections.get("memory", ())),
        *_start(sections.get("start", ())),
        *_loader(sections.get("loader", ())),
        *_evaluation(sections.get("evaluation", ())),
        *_networks(sections.get("networks", ())),
    ]


def worst_term(rows: Sequence[Row]) -> float:
    """Return the largest ratio of the term at final to CE+KD alone.

    Raises:
        ValueError: if no row has this ratio.
    """
    return max(float(row["ratio"]["median"]) for row in rows if row["variant"] == TERM_AT_FINAL)


def _figure(
    name: str, row: Row, value: Spread | float, *, most: float | None = None, least: float | None = None
) -> Row:
    middle: Any = value["median"] if isinstance(value, dict) else value
    bound, holds = "", None
    if most is not None:
        bound, holds = f"<= {most:g}", middle <= most
    if least is not None:
        bound, holds = f">= {least:g}", middle >= least
    place = {key: row.get(key) for key in ("precision", "batch")}
    return {"figure": name, **place, "value": value, "bound": bound, "holds": holds}


def _steps(rows: Sequence[Row]) -> Iterator[Row]:
    for row in rows:
        if row["variant"] == TERM_AT_FINAL:
            most = TERM_BOUNDS[row["precision"]]
            yield _figure("step with the term at final / CE+KD alone", row, row["ratio"], most=most)


def _epochs(rows: Sequence[Row]) -> Iterator[Row]:
    by_name = {row["variant"]: row for row in rows}
    for name, label in ((TERM_AT_FINAL, "with live teacher and term"), (WITHOUT_TEACHER, "without teacher")):
        row = by_name.get(name)
        if row is None:
            continue
        live = name == TERM_AT_FINAL
        least = AT_LEAST_OF_BARE if live else None
        yield _figure(f"images/s of an epoch {label} / of bare steps", row, row["of_bare"], least=least)
        yield _figure(f"the same, with validation, {label}", row, row["of_bare_validated"])
        most = OVERHEAD if row["batch"] == OVERHEAD_BATCH else None
        yield _figure(f"step inside a run {label} / bare step, loader included", row, row["overhead"], most=most)
    warm = by_name.get(WARM)
    if warm is not None and "to_ce" in warm:
        yield _figure("epoch with warm cache / epoch without any teacher", warm, warm["to_ce"], most=WARM_TO_CE)
        yield _figure("the same, with validation, with warm cache", warm, warm["to_ce_validated"])
        yield _figure("share of views found in the warm cache", warm, warm["teacher_cache_hits"], least=1.0)


def _memory(rows: Sequence[Row]) -> Iterator[Row]:
    for row in rows:
        if row["variant"] == TERM_AT_FINAL:
            yield _figure(f"peak of one {row['what']} with the term / CE+KD alone", row, row["ratio"], most=MEMORY)


def _start(rows: Sequence[Row]) -> Iterator[Row]:
    for i, row in enumerate(rows):
        yield _figure(f"seconds: {row['what']}", row, row["seconds"], most=START_SECONDS if i == 0 else None)


def _loader(rows: Sequence[Row]) -> Iterator[Row]:
    for row in rows[:1]:
        yield _figure("data path / step without teacher", row, row["of_ce_step"])
        yield _figure("data path / step with the term", row, row["of_term_step"])


def _evaluation(rows: Sequence[Row]) -> Iterator[Row]:
    for row in rows:
        name = f"maps and metrics of {row['images']:,} images, {row['networks']} / forward passes"
        yield _figure(name, row, row["ratio"], most=EVALUATION)


def _networks(rows: Sequence[Row]) -> Iterator[Row]:
    for row in rows:
        name = f"{row['network']}: {row['what']} / {row['against']}"
        most, least = NETWORKS_MOST.get(row["what"]), NETWORKS_LEAST.get(row["what"])
        yield _figure(name, row, row["ratio"], most=most, least=least)
