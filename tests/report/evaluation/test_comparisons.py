"""What is called a difference, and what noise."""

from __future__ import annotations

import pytest

from distill.report.evaluation.comparisons import (
    INSIDE,
    NOT_COMPARABLE,
    best,
    comparable,
    comparison_rows,
    find_comparison,
    is_certain,
    ranking,
    students,
)
from distill.report.evaluation.page import render
from distill.report.evaluation.record import SetRecord
from distill.report.evaluation.text import markdown_tables
from tests.report.checks import comparison, make_record, measured


@pytest.fixture
def entry() -> SetRecord:
    return make_record()["sets"]["unbiased"]


@pytest.mark.parametrize(
    ("difference", "half", "p_holm", "certain"),
    [
        (0.12, 0.04, 0.0001, True),
        (-0.12, 0.04, 0.0001, True),
        (0.12, 0.04, 0.05, False),
        (0.03, 0.04, 0.0001, False),
        (-0.03, 0.04, 0.0001, False),
        (0.04, 0.04, 0.0001, False),
    ],
)
def test_noise_is_either_a_large_p_or_an_interval_with_zero(
    difference: float, half: float, p_holm: float, certain: bool
) -> None:
    assert is_certain(comparison("accuracy", "CE", "KD", difference, half, p_holm)) is certain


def test_a_comparison_is_found_from_both_ends(entry: SetRecord) -> None:
    forth, back = find_comparison(entry, "accuracy", "KD", "CE"), find_comparison(entry, "accuracy", "CE", "KD")
    assert forth is not None
    assert back is not None
    assert (forth["difference"], forth["low"], forth["high"], forth["effect"]) == pytest.approx((0.12, 0.08, 0.16, 0.5))
    assert (back["difference"], back["low"], back["high"], back["effect"]) == pytest.approx((-0.12, -0.16, -0.08, -0.5))
    assert (back["first"], back["second"], back["p_holm"]) == ("CE", "KD", 0.0001)
    assert find_comparison(entry, "gini", "KD", "CE") is None


def test_the_best_is_ahead_of_each_other_by_more_than_noise(entry: SetRecord) -> None:
    names = ["CE", "KD"]
    assert best(entry, "accuracy", names) == "KD"
    assert best(entry, "agreement", names) == "KD"
    assert best(entry, "energy_in_object", names) is None  # inside the noise
    for name in names:  # figures of faithfulness are compared at equal accuracy
        entry["networks"][name]["figures"]["accuracy"] = measured(0.8)
    assert best(entry, "deletion_auc", names) == "KD"  # lower is better
    assert best(entry, "zero_maps", names) is None  # never compared
    assert best(entry, "accuracy", ["KD"]) is None  # of one


def test_a_third_network_that_was_not_compared_takes_the_mark_away(entry: SetRecord) -> None:
    entry["networks"]["other"] = entry["networks"]["CE"]
    assert best(entry, "accuracy", ["CE", "KD", "other"]) is None
    entry["comparisons"].append(comparison("accuracy", "other", "KD", -0.12, 0.04, 0.001))
    assert best(entry, "accuracy", ["CE", "KD", "other"]) == "KD"


def test_a_mean_and_a_comparison_that_disagree_mark_nobody(entry: SetRecord) -> None:
    entry["comparisons"] = [comparison("accuracy", "KD", "CE", -0.12, 0.04, 0.001)]
    assert best(entry, "accuracy", ["CE", "KD"]) is None


def test_a_figure_without_a_better_end_has_no_best(entry: SetRecord) -> None:
    for name, value in (("CE", 0.2), ("KD", 0.4)):
        entry["networks"][name]["figures"]["gini"] = {"value": value, "low": None, "high": None, "n": 9, "excluded": 0}
    entry["comparisons"] = [comparison("gini", "KD", "CE", 0.2, 0.04, 0.001)]
    assert best(entry, "gini", ["CE", "KD"]) is None
    assert [row.verdict for row in comparison_rows(entry)] == ["KD higher"]


def test_neither_the_reference_nor_the_ceiling_competes() -> None:
    record = make_record()
    assert students(record) == ["CE", "KD"]
    record["ceiling"] = "KD"
    assert students(record) == ["CE"]


def test_the_ranking_goes_by_what_is_better(entry: SetRecord) -> None:
    assert ranking(entry, "energy_in_object", ["KD", "CE", "absent"]) == [("CE", 0.4125), ("KD", 0.3875)]
    assert [name for name, _ in ranking(entry, "deletion_auc", ["CE", "KD"])] == ["KD", "CE"]
    assert ranking(entry, "gini", ["CE", "KD"]) == []


def test_comparisons_in_words(entry: SetRecord) -> None:
    rows = comparison_rows(entry)
    assert [(row.title, row.first, row.difference, row.interval, row.p, row.verdict) for row in rows] == [
        ("Accuracy", "KD", "+12.0 points", "8.0 to 16.0", "< 0.001", "KD better"),
        ("Agreement", "CE", "−15.0 points", "−19.0 to −11.0", "< 0.001", "KD better"),
        ("Map cosine", "KD", "+0.188", "0.178 to 0.198", "< 0.001", "KD better"),
        ("In object", "CE", "+2.5 points", "−1.0 to 6.0", "0.400", INSIDE),
        ("Deletion", "CE", "+0.013", "0.010 to 0.015", "0.030", NOT_COMPARABLE),
    ]
    assert [row.certain for row in rows] == [True, True, True, False, False]


def test_an_interval_is_drawn_to_the_scale_of_its_figure(entry: SetRecord) -> None:
    entry["comparisons"] = [
        comparison("accuracy", "KD", "CE", 0.12, 0.04, 0.001),
        comparison("accuracy", "CE", "KD", -0.04, 0.04, 0.001),
    ]
    first, second = comparison_rows(entry)
    assert (first.low, first.value, first.high) == pytest.approx((0.75, 0.875, 1.0))  # the reach is 0.16
    assert (second.low, second.value, second.high) == pytest.approx((0.25, 0.375, 0.5))


FAITHFULNESS = [("deletion_auc", 0.02, 0.4), ("insertion_auc", 0.6, 0.2), ("average_drop", 0.01, 0.5)]


@pytest.mark.parametrize(("figure", "value", "other"), FAITHFULNESS)
@pytest.mark.parametrize(("accuracy", "counts"), [(0.002, False), (0.74, False), (0.75, True), (0.82, True)])
def test_a_network_that_is_often_wrong_is_not_the_most_faithful(
    entry: SetRecord, figure: str, value: float, other: float, accuracy: float, counts: bool
) -> None:
    for name, right, score in (("CE", accuracy, value), ("KD", 0.8, other)):
        entry["networks"][name]["figures"] |= {"accuracy": measured(right), figure: measured(score)}
    entry["comparisons"] = [comparison(figure, "CE", "KD", value - other, 0.04, 0.0001)]
    assert best(entry, figure, ["CE", "KD"]) == ("CE" if counts else None)
    (row,) = comparison_rows(entry)
    assert row.verdict == ("CE better" if counts else NOT_COMPARABLE)
    assert row.certain is counts


def test_the_others_are_compared_without_the_network_that_is_often_wrong(entry: SetRecord) -> None:
    entry["networks"]["wrong"] = {**entry["networks"]["CE"], "figures": dict(entry["networks"]["CE"]["figures"])}
    values = {"CE": (0.79, 0.3), "KD": (0.8, 0.2), "wrong": (0.002, 0.02)}
    for name, (right, score) in values.items():
        entry["networks"][name]["figures"] |= {"accuracy": measured(right), "deletion_auc": measured(score)}
    entry["comparisons"] = [
        comparison("deletion_auc", "CE", "KD", 0.1, 0.04, 0.0001),
        comparison("deletion_auc", "CE", "wrong", 0.28, 0.04, 0.0001),
        comparison("deletion_auc", "KD", "wrong", 0.18, 0.04, 0.0001),
    ]
    assert comparable(entry, "deletion_auc", list(values)) == ["CE", "KD"]
    assert comparable(entry, "energy_in_object", list(values)) == list(values)
    assert best(entry, "deletion_auc", list(values)) == "KD"


def test_the_page_and_the_table_say_so() -> None:
    record = make_record()
    for text in (markdown_tables(record), render(title="", record=record, curves=[], galleries=[], facts={})):
        assert "are compared only among networks whose accuracy is at most 5 percentage points below" in text
