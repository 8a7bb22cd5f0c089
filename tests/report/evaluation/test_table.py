"""The table as text, what is marked as the best, and how it is read out."""

from __future__ import annotations

from distill.report import EvaluationRecord, markdown_tables, table_rows
from distill.report.evaluation.sentences import caveat, summary_sentences
from distill.report.evaluation.table import columns, group_figures, left_out, sections
from tests.report.checks import HOSTILE, comparison, make_record, measured, renamed


def without(*names: str) -> EvaluationRecord:
    record = make_record()
    for name in names:
        del record["networks"][name]
        for entry in record["sets"].values():
            del entry["networks"][name]
            entry["comparisons"] = [c for c in entry["comparisons"] if name not in (c["first"], c["second"])]
    return record


def test_rows() -> None:
    header, rows = table_rows(make_record())
    assert header == ["Test set", "Network", "Accuracy", "Agreement", "Map cosine", "In object"]
    assert rows[:3] == [
        ["unbiased (n = 400)", "teacher (reference)", "87.8%", "–", "–", "61.3%"],
        ["unbiased (n = 400)", "CE", "70.2%", "69.8%", "0.743 (n = 397)", "41.2%"],
        ["unbiased (n = 400)", "KD", "82.2% *", "84.8% *", "0.931 * (n = 397)", "38.8%"],
    ]
    assert rows[3][2:] == ["90.0%", "–", "–", "not measured"]


def test_what_was_measured_nowhere_is_only_named() -> None:
    assert [column.key for column in columns(make_record())] == [
        "accuracy",
        "agreement",
        "map_cosine",
        "energy_in_object",
        "deletion_auc",
    ]
    assert left_out(make_record()) == ["ADCC", "Insertion"]


def test_where_nothing_was_compared_nobody_is_the_best() -> None:
    record = make_record()
    record["sets"]["unbiased"]["comparisons"] = []
    assert not any(cell.best for section in sections(record) for row in section.rows for cell in row.cells)


def test_floor_and_ceiling_stand_with_the_cosine() -> None:
    record = renamed(make_record(), "CE", "second teacher")
    record["ceiling"] = "second teacher"
    (teacher, ceiling, student), shown = sections(record)[0].rows, columns(record)
    assert [row.role for row in (teacher, ceiling, student)] == ["reference", "ceiling", ""]
    cosine = [column.key for column in shown].index("map_cosine")
    assert (student.cells[cosine].floor, student.cells[cosine].ceiling) == (0.4375, 0.7431)
    assert student.cells[0].floor is None
    assert not any(cell.best for cell in student.cells)  # with the ceiling aside it is alone


def test_what_no_image_is_left_for_has_no_figure() -> None:
    record = make_record()
    record["sets"]["unbiased"]["networks"]["CE"]["figures"]["map_cosine"] = measured(None, 0, 400)
    assert table_rows(record)[1][1][4] == "no image left (n = 0)"


def test_a_figure_that_a_record_lacks_was_not_measured() -> None:
    record = make_record()
    for scores in record["sets"]["plain"]["networks"].values():
        del scores["figures"]["map_cosine"]
    assert table_rows(record)[1][4][4] == "not measured"


def test_markdown() -> None:
    record = renamed(make_record(), "plain", "a|b")
    record["sets"]["a|b"]["networks"][HOSTILE] = record["sets"]["a|b"]["networks"].pop("CE")
    lines = markdown_tables(record).splitlines()
    assert lines[:4] == [
        "**unbiased** (n = 400; a uniform map has 20.0% in the object)",
        "",
        "| Figure |  | teacher (reference) | CE | KD |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    assert lines[4] == "| Accuracy | ↑ | 87.8% (83.7 to 91.8) | 70.2% (66.2 to 74.2) | **82.2%** (78.2 to 86.2) |"
    (cosine,) = [line for line in lines[:12] if line.startswith("| Map cosine |")]
    assert cosine == (
        "| Map cosine | ↑ | – | 0.743 (0.733 to 0.753) (n = 397) | **0.931** (0.921 to 0.941) (n = 397) |"
    )
    assert any(line.startswith("| Deletion | ↓ |") for line in lines)
    start = lines.index("**a\\|b** (n = 400)")
    assert '&lt;script>alert("1")&lt;/script>' in lines[start + 2]
    assert lines[-1].startswith("↑ higher is better")


def test_agreement_under_held_out_explainers_stands_below() -> None:
    record = make_record()
    del record["sets"]["unbiased"]["networks"]["CE"]["held_out"]["input_x_gradient"]
    lines = [line for line in markdown_tables(record).splitlines() if "input_x_gradient" in line]
    assert lines == [
        "| Map cosine, input_x_gradient | ↑ | – | – | 0.800 (0.760 to 0.840) (n = 64) |",
        "| Cosine floor, input_x_gradient |  | – | – | 0.250 (0.210 to 0.290) (n = 64) |",
    ]


def test_every_figure_has_its_group_and_what_was_not_measured_is_named() -> None:
    groups = group_figures(make_record())
    answers, agreement = groups[0], groups[1]
    assert [column.title for column in answers.columns] == ["Accuracy", "Agreement"]
    assert answers.missing == ("Output KL", "Calibration error")
    name, n, figures = agreement.sets[0]
    assert (name, n) == ("unbiased", 400)
    assert [[cell.text for cell in figure.cells] for figure in figures] == [
        ["–", "0.743", "0.931"],
        ["–", "0.438", "0.438"],
    ]
    assert [cell.excluded for cell in figures[0].cells] == [0, 3, 3]


def test_the_verdict_is_read_out() -> None:
    first, second = summary_sentences(make_record())
    assert first == (
        "On unbiased (400 images). "
        "Accuracy: KD has 82.2%, ahead of CE (+12.0 points, 8.0 to 16.0); the teacher has 87.8%. "
        "Agreement with the reference: KD has 84.8%, ahead of CE (+15.0 points, 11.0 to 19.0). "
        "Cosine with the maps of the reference: KD has 0.931, ahead of CE (+0.188, 0.178 to 0.198); "
        "maps of different images have 0.438. "
        "Share of the map on the object: CE has 41.2%; its difference from KD (+2.5 points, −1.0 to 6.0) "
        "is inside the noise; the teacher has 61.3%."
    )
    assert second.startswith(
        "On plain (400 images). Accuracy: CE has 70.0%; it was not compared with KD; the teacher has 90.0%. "
    )
    assert "ahead" not in second


def test_a_small_lead_is_called_noise() -> None:
    record = make_record()
    record["sets"]["unbiased"]["comparisons"][0] = comparison("accuracy", "KD", "CE", 0.12, 0.04, 0.051)
    reason = "Wilcoxon’s test after Holm’s correction: p = 0.051"
    expected = f"its difference from CE (+12.0 points, 8.0 to 16.0; {reason}) is inside the noise"
    assert expected in summary_sentences(record)[0]


def test_one_of_several_may_be_too_near() -> None:
    record = make_record()
    entry = record["sets"]["unbiased"]
    record["networks"]["AT"] = record["networks"]["CE"]
    entry["networks"]["AT"] = entry["networks"]["CE"]
    entry["comparisons"].append(comparison("accuracy", "AT", "KD", -0.02, 0.03, 0.3))
    assert (
        "Accuracy: KD has 82.2%, ahead of CE (+12.0 points, 8.0 to 16.0); "
        "its difference from AT (+2.0 points, −1.0 to 5.0) is inside the noise; the teacher has 87.8%."
    ) in summary_sentences(record)[0]


def test_the_ceiling_is_read_out() -> None:
    record = make_record()
    record["ceiling"] = "CE"
    assert (
        "KD has 0.931; maps of different images have 0.438; CE, a second training of the reference, has 0.743."
        in summary_sentences(record)[0]
    )


def test_one_student_and_a_network_alone_are_read_out() -> None:
    assert summary_sentences(without("CE"))[1] == (
        "On plain (400 images). Accuracy: KD has 70.0%; the teacher has 90.0%. "
        "Agreement with the reference: KD has 75.0%. "
        "Cosine with the maps of the reference: KD has 0.800; maps of different images have 0.438."
    )
    assert summary_sentences(without("CE", "KD"))[1] == "On plain (400 images). Accuracy: the teacher has 90.0%."


def test_the_caveat_says_what_intervals_are_about_and_one_seed() -> None:
    record = make_record()
    assert "one seed" in caveat(record)
    assert "below 0.05 after Holm’s correction" in caveat(record)
    record["sets"]["unbiased"]["comparisons"] = []
    assert "No two networks were compared." in caveat(record)
