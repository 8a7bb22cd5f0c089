"""The verdict table read out in a few sentences that claim no more than the figures can carry."""

from __future__ import annotations

import math

from distill.report.record import EvaluationRecord, SetRecord
from distill.report.table import COLUMNS, Metric, format_value

_STYLE = {column.key: column.style for column in COLUMNS}


def read_out(record: EvaluationRecord) -> list[str]:
    """Say for every test set which network is most often right, and whose maps are nearest to the reference's."""
    return [_read_set(name, entry, record["reference"]) for name, entry in record["sets"].items()]


def caveat(record: EvaluationRecord) -> str:
    """Say how large a difference must be before it means anything."""
    widths = [
        (_half_width(scores["accuracy"]["value"], scores["accuracy"]["n"]), scores["accuracy"]["n"])
        for entry in record["sets"].values()
        for scores in entry["networks"].values()
    ]
    spread, n = max(widths)
    return (
        f"Every row is one training run with one seed. {n:,} images alone leave an accuracy uncertain by about "
        f"±{spread * 100:.1f} points, and another seed would move every figure again: small differences say "
        "nothing until several seeds agree on them."
    )


def noise_of_difference(first: float, second: float, n: int) -> float:
    """Half the 95 % interval of a difference of two accuracies, taken as independent.

    Convention:
        - Networks tested on the same images usually differ by less noise than that; so this errs towards caution.

    Example:
        >>> round(noise_of_difference(0.5, 0.5, 800), 3)
        0.049
    """
    return math.hypot(_half_width(first, n), _half_width(second, n))


def _half_width(share: float | None, n: int) -> float:
    return 0.0 if share is None else 1.96 * math.sqrt(share * (1 - share) / n)


def _read_set(name: str, entry: SetRecord, reference: str | None) -> str:
    where = f"On {name} ({entry['n']:,} images)"
    target = "" if reference is None else f"{_the(reference)} on {_accuracy(entry, reference)}"
    ranking = _ranking(entry, "accuracy", reference)
    if not ranking:
        return f"{where}, {target.replace(' on ', ' is right on ', 1)}; there is no other network to compare."
    best, value = ranking[0]
    if len(ranking) == 1:
        first = f"{where}, {best} is right on {format_value(value, 'percent')}{target and ', ' + target}."
    elif value == ranking[-1][1]:
        first = f"{where}, all are right equally often, on {format_value(value, 'percent')}{target and '; ' + target}."
    else:
        first = (
            f"{where}, {best} is right most often: on {format_value(value, 'percent')}, against "
            f"{_others(ranking, 'accuracy')}{target and '; ' + target}."
        )
    second = (
        ""
        if reference is None
        else _read_maps(
            _ranking(entry, "map_cosine", reference),
            "map_cosine",
            f"Nearest to {_the(reference)}’s maps are those of {{}}: cosine",
            f"The cosine of its maps and {_the(reference)}’s is",
        )
    )
    third = _read_maps(
        _ranking(entry, "energy_in_object", reference),
        "energy_in_object",
        "Most on the object are the maps of {}:",
        "The share of its map on the object is",
    )
    return " ".join(part for part in (first, _lead(ranking, entry["n"]), second, third) if part)


def _lead(ranking: list[tuple[str, float]], n: int) -> str:
    if len(ranking) < 2 or ranking[0][1] == ranking[-1][1]:
        return ""
    (_, value), (other, runner_up) = ranking[:2]
    gap, noise = value - runner_up, noise_of_difference(value, runner_up, n)
    if gap >= noise:
        return ""
    return (
        f"The lead of {gap * 100:.1f} points over {other} is within what this many images can tell "
        f"(±{noise * 100:.1f})."
    )


def _read_maps(ranking: list[tuple[str, float]], metric: Metric, several: str, single: str) -> str:
    if not ranking:
        return ""
    best, value = ranking[0]
    shown = format_value(value, _STYLE[metric])
    if len(ranking) == 1:
        return f"{single} {shown}."
    if shown == format_value(ranking[-1][1], _STYLE[metric]):
        return ""
    return f"{several.replace('{}', best)} {shown}, against {_others(ranking, metric)}."


def _ranking(entry: SetRecord, metric: Metric, reference: str | None) -> list[tuple[str, float]]:
    values = []
    for name, scores in entry["networks"].items():
        measured = scores[metric]
        if name != reference and measured is not None and measured["value"] is not None:
            values.append((name, measured["value"]))
    return sorted(values, key=lambda pair: -pair[1])


def _others(ranking: list[tuple[str, float]], metric: Metric) -> str:
    return ", ".join(f"{format_value(value, _STYLE[metric])} ({name})" for name, value in ranking[1:])


def _accuracy(entry: SetRecord, name: str) -> str:
    value = entry["networks"][name]["accuracy"]["value"]
    return "no image" if value is None else format_value(value, "percent")


def _the(name: str) -> str:
    return f"the {name}" if name.lower() in ("teacher", "reference") else name
