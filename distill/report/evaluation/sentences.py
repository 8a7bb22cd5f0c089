"""The results of an evaluation in sentences; only significant differences are claimed."""

from __future__ import annotations

from distill.metrics.names import ACCURACY_MARGIN, METRIC_INFO
from distill.report.common.numbers import (
    format_difference,
    format_interval,
    format_p,
    format_value,
    join_words,
)
from distill.report.evaluation.comparisons import (
    LEVEL,
    find_comparison,
    is_certain,
    ranking,
    students,
)
from distill.report.evaluation.record import DIGITS, EvaluationRecord
from distill.report.evaluation.table import value_of, was_measured

_SUBJECTS = {
    "accuracy": "Accuracy",
    "agreement": "Agreement with the reference",
    "map_cosine": "Cosine with the maps of the reference",
    "energy_in_object": "Share of the map on the object",
}


def summary_sentences(record: EvaluationRecord) -> list[str]:
    """Return one text per test set: the ranking of the networks, and which differences are beyond the noise."""
    texts = []
    for name, entry in record["sets"].items():
        sentences = [_figure_sentence(record, name, key) for key in _SUBJECTS]
        texts.append(f"On {name} ({entry['n']:,} images). " + " ".join(one for one in sentences if one))
    return texts


def caveat(record: EvaluationRecord) -> str:
    """Return what the intervals and the comparisons cover, and what they do not."""
    compared = any(entry["comparisons"] for entry in record["sets"].values())
    rule = (
        "A network is marked best only if it is better than every other network except the reference, with p below "
        f"{LEVEL:g} after Holm’s correction and an interval of the difference that does not contain 0. "
        f"{faithfulness_rule(record)}"
    )
    return (
        f"Intervals are 95 % intervals over images. {rule if compared else 'No two networks were compared. '}"
        "Every row is one training run with one seed. The intervals do not include the variation between seeds; an "
        "ablation over seeds measures it."
    )


def faithfulness_rule(record: EvaluationRecord) -> str:
    """Return among which networks the figures of faithfulness are compared; empty if none was measured."""
    keys = [key for key, info in METRIC_INFO.items() if info.group == "faithfulness"]
    titles = [METRIC_INFO[key].title for key in keys if was_measured(record, key)]
    if not titles:
        return ""
    return (
        f"Figures of faithfulness ({', '.join(titles)}) are compared only among networks whose accuracy is at most "
        f"{100 * ACCURACY_MARGIN:g} percentage points below the highest one: a network that is nearly always wrong has "
        "a low probability whatever its maps show. "
    )


def _figure_sentence(record: EvaluationRecord, set_name: str, key: str) -> str:
    style = METRIC_INFO[key].style
    ranked = ranking(record["sets"][set_name], key, students(record))
    target = value_of(record, set_name, record["reference"], key)
    parts = []
    if ranked:
        (first, value), *others = ranked
        lead = _compare_with_others(record, set_name, key, first, [name for name, _ in others])
        parts.append(f"{first} has {format_value(value, style, digits=DIGITS)}{lead}")
    if key == "map_cosine" and ranked:
        parts += _bounds(record, set_name, [name for name, _ in ranked])
    if target is not None:
        parts.append(f"{_the(str(record['reference']))} has {format_value(target, style, digits=DIGITS)}")
    return f"{_SUBJECTS[key]}: {'; '.join(parts)}." if parts else ""


def _compare_with_others(record: EvaluationRecord, set_name: str, key: str, first: str, others: list[str]) -> str:
    entry, style = record["sets"][set_name], METRIC_INFO[key].style
    ahead: list[str] = []
    noise: list[str] = []
    not_compared: list[str] = []
    for other in others:
        comparison = find_comparison(entry, key, first, other)
        if comparison is None:
            not_compared.append(other)
            continue
        difference = format_difference(comparison["difference"], style, digits=DIGITS, unit=True)
        interval = format_interval(comparison["low"], comparison["high"], style, digits=DIGITS)
        if is_certain(comparison):
            ahead.append(f"{other} ({difference}, {interval})")
        else:  # the interval may exclude 0: it is not corrected for the number of comparisons
            p = format_p(comparison["p_holm"])
            decided = (
                f"; Wilcoxon’s test after Holm’s correction: p = {p}"
                if comparison["low"] * comparison["high"] > 0
                else ""
            )
            noise.append(f"{other} ({difference}, {interval}{decided})")
    parts = [f", ahead of {join_words(ahead)}"] if ahead else []
    if noise:
        parts.append(f"; its difference from {join_words(noise)} is inside the noise")
    if not_compared:
        parts.append(f"; it was not compared with {join_words(not_compared)}")
    return "".join(parts)


def _bounds(record: EvaluationRecord, set_name: str, ranked: list[str]) -> list[str]:
    floors = [value_of(record, set_name, name, "map_cosine_floor") for name in ranked]
    measured = [floor for floor in floors if floor is not None]
    parts = []
    if measured:
        low, high = (format_value(value, "number", digits=DIGITS) for value in (min(measured), max(measured)))
        parts.append(f"maps of different images have {low if low == high else f'{low} to {high}'}")
    ceiling = value_of(record, set_name, record["ceiling"], "map_cosine")
    if ceiling is not None:
        value = format_value(ceiling, "number", digits=DIGITS)
        parts.append(f"{record['ceiling']}, a second training of the reference, has {value}")
    return parts


def _the(name: str) -> str:
    return f"the {name}" if name.lower() in ("teacher", "reference") else name
