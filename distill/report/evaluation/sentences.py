"""The verdict read out in a few sentences that claim no more than the comparisons say."""

from __future__ import annotations

from distill.metrics.names import METRIC_INFO
from distill.report.evaluation.comparisons import (
    LEVEL,
    compare,
    format_difference,
    format_range,
    is_certain,
    ranking,
    students,
)
from distill.report.evaluation.record import EvaluationRecord
from distill.report.evaluation.table import format_value, value_of

_SUBJECTS = {
    "accuracy": "Accuracy",
    "agreement": "Agreement with the reference",
    "map_cosine": "Cosine of the maps and the reference’s",
    "energy_in_object": "Share of the map on the object",
}


def summary_sentences(record: EvaluationRecord) -> list[str]:
    """Say for every test set how networks stand, and which differences are more than noise."""
    said = []
    for name, entry in record["sets"].items():
        sentences = [_standing(record, name, key) for key in _SUBJECTS]
        said.append(f"On {name} ({entry['n']:,} images). " + " ".join(one for one in sentences if one))
    return said


def caveat(record: EvaluationRecord) -> str:
    """Say what the intervals and the comparisons are about, and what they leave open."""
    compared = any(entry["comparisons"] for entry in record["sets"].values())
    rule = (
        "A network is marked best only where it is ahead of every other one, the reference aside, with p below "
        f"{LEVEL:g} after Holm’s correction and an interval of the difference that leaves 0 out. "
    )
    return (
        f"Intervals are 95 % intervals over images. {rule if compared else 'No two networks were compared. '}"
        "Every row is one training run with one seed: another seed would move all figures again, by an amount that "
        "images cannot tell; an ablation over seeds can."
    )


def _standing(record: EvaluationRecord, set_name: str, key: str) -> str:
    style = METRIC_INFO[key].style
    ranked = ranking(record["sets"][set_name], key, students(record))
    target = value_of(record, set_name, record["reference"], key)
    parts = []
    if ranked:
        (first, value), *others = ranked
        said = _leads(record, set_name, key, first, [name for name, _ in others])
        parts.append(f"{first} has {format_value(value, style)}{said}")
    if key == "map_cosine" and ranked:
        parts += _bounds(record, set_name, [name for name, _ in ranked])
    if target is not None:
        parts.append(f"{_the(str(record['reference']))} has {format_value(target, style)}")
    return f"{_SUBJECTS[key]}: {'; '.join(parts)}." if parts else ""


def _leads(record: EvaluationRecord, set_name: str, key: str, first: str, others: list[str]) -> str:
    """Hold the first against each of the others."""
    entry, style = record["sets"][set_name], METRIC_INFO[key].style
    ahead: list[str] = []
    noise: list[str] = []
    unknown: list[str] = []
    for other in others:
        found = compare(entry, key, first, other)
        if found is None:
            unknown.append(other)
            continue
        gap, interval = format_difference(found["difference"], style), format_range(found["low"], found["high"], style)
        (ahead if is_certain(found) else noise).append(f"{other} ({gap}, {interval})")
    said = [f", ahead of {_join(ahead)}"] if ahead else []
    if noise:
        said.append(f"; what sets it off from {_join(noise)} is inside the noise")
    if unknown:
        said.append(f"; it was not compared with {_join(unknown)}")
    return "".join(said)


def _bounds(record: EvaluationRecord, set_name: str, ranked: list[str]) -> list[str]:
    floors = [value_of(record, set_name, name, "map_cosine_floor") for name in ranked]
    known = [floor for floor in floors if floor is not None]
    said = []
    if known:
        low, high = (format_value(value, "number") for value in (min(known), max(known)))
        said.append(f"maps of other images have {low if low == high else f'{low} to {high}'}")
    ceiling = value_of(record, set_name, record["ceiling"], "map_cosine")
    if ceiling is not None:
        said.append(f"{record['ceiling']}, the reference trained once more, has {format_value(ceiling, 'number')}")
    return said


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _the(name: str) -> str:
    return f"the {name}" if name.lower() in ("teacher", "reference") else name
