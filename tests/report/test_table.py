"""The table as text, what is marked as the best, and how it is read out."""

from __future__ import annotations

from distill.report import markdown_table, table_rows
from distill.report.reading import caveat, read_out
from distill.report.table import sections
from tests.report.checks import HOSTILE, make_record


def test_rows() -> None:
    header, rows = table_rows(make_record())
    assert header == ["Test set", "Network", "Accuracy", "Agreement", "Map cosine", "In object"]
    assert rows[:3] == [
        ["unbiased (n = 400)", "teacher (reference)", "87.8%", "–", "–", "61.3%"],
        ["unbiased (n = 400)", "CE", "70.2%", "69.8%", "0.743 (n = 397)", "41.2% *"],
        ["unbiased (n = 400)", "KD", "82.2% *", "84.8% *", "0.931 * (n = 397)", "38.8%"],
    ]
    assert rows[3][2:] == ["90.0%", "–", "–", "not measured"]


def test_equal_figures_have_no_best() -> None:
    plain = sections(make_record())[1]
    best = {row.network: [cell.best for cell in row.cells] for row in plain.rows}
    assert best == {
        "teacher": [False, False, False, False],
        "CE": [False, False, False, False],
        "KD": [False, True, False, False],
    }


def test_a_single_student_is_not_the_best_of_one() -> None:
    record = make_record()
    for entry in record["sets"].values():
        del entry["networks"]["CE"]
    assert not any(cell.best for section in sections(record) for row in section.rows for cell in row.cells)


def test_what_no_image_is_left_for_has_no_figure() -> None:
    record = make_record()
    record["sets"]["unbiased"]["networks"]["CE"]["map_cosine"] = {"value": None, "n": 0, "excluded": 400}
    assert table_rows(record)[1][1][4] == "no image left (n = 0)"


def test_markdown() -> None:
    record = make_record()
    record["sets"]["a|b"] = record["sets"].pop("plain")
    record["sets"]["a|b"]["networks"][HOSTILE] = record["sets"]["a|b"]["networks"].pop("CE")
    lines = markdown_table(record).splitlines()
    assert lines[1] == "| --- | --- | ---: | ---: | ---: | ---: |"
    assert lines[4] == "| unbiased (n = 400) | KD | **82.2%** | **84.8%** | **0.931** (n = 397) | 38.8% |"
    assert lines[7].startswith('| a\\|b (n = 400) | &lt;script>alert("1")&lt;/script> | 70.0% |')


def test_the_table_is_read_out() -> None:
    first, second = read_out(make_record())
    assert first == (
        "On unbiased (400 images), KD is right most often: on 82.2%, against 70.2% (CE); the teacher on 87.8%. "
        "Nearest to the teacher’s maps are those of KD: cosine 0.931, against 0.743 (CE). "
        "Most on the object are the maps of CE: 41.2%, against 38.8% (KD)."
    )
    assert second == "On plain (400 images), all are right equally often, on 70.0%; the teacher on 90.0%."


def test_a_small_lead_is_called_small() -> None:
    record = make_record()
    record["sets"]["unbiased"]["networks"]["CE"]["accuracy"]["value"] = 0.8
    # 1.96 sqrt((0.8225 x 0.1775 + 0.8 x 0.2) / 400) = 0.0542
    assert "The lead of 2.2 points over CE is within what this many images can tell (±5.4)." in read_out(record)[0]


def test_one_student_is_read_out() -> None:
    record = make_record()
    for entry in record["sets"].values():
        del entry["networks"]["CE"]
    assert read_out(record)[0] == (
        "On unbiased (400 images), KD is right on 82.2%, the teacher on 87.8%. "
        "The cosine of its maps and the teacher’s is 0.931. The share of its map on the object is 38.8%."
    )


def test_a_network_alone_is_read_out() -> None:
    record = make_record()
    for entry in record["sets"].values():
        del entry["networks"]["CE"], entry["networks"]["KD"]
    assert read_out(record)[1] == (
        "On plain (400 images), the teacher is right on 90.0%; there is no other network to compare."
    )


def test_the_caveat_says_n_and_one_seed() -> None:
    text = caveat(make_record())  # 1.96 sqrt(0.7 x 0.3 / 400) = 0.0449
    assert "one seed" in text
    assert "400 images" in text
    assert "±4.5 points" in text
