"""Details of an evaluation: geometry of charts, strata, held-out explainers."""

from __future__ import annotations

from distill.report.common.charts import Chart
from distill.report.evaluation.evidence import Evidence, collect_evidence
from tests.report.checks import make_record

STYLES = {"teacher": 0, "CE": 1, "KD": 2}


def evidence() -> Evidence:
    return collect_evidence(make_record(), STYLES)[0]


def chart(start: str) -> Chart:
    (found,) = [one for one in evidence().charts if one.title.startswith(start)]
    return found


def test_a_histogram_is_drawn_in_steps_of_shares() -> None:
    lines = chart("Share of images").lines
    assert [(line.run, line.style) for line in lines] == [("CE", 1), ("KD", 2)]
    # counts 100, 100, 200 between 0, 0.5, 0.9 and 1; 46 to 506 across, shares from 0 at 226 up to 0.6 at 12
    assert lines[0].points == "46.0,136.8 276.0,136.8 276.0,136.8 460.0,136.8 460.0,47.7 506.0,47.7"
    assert lines[0].markers == ()


def test_perturbation_curves_span_nought_to_one() -> None:
    deletion, insertion = chart("Deletion"), chart("Insertion")
    assert [line.run for line in deletion.lines] == ["teacher", "CE", "KD"]
    assert (deletion.y_ticks[0].text, deletion.y_ticks[-1].text) == ("0", "1")
    first = deletion.lines[0].points.split()
    assert (first[0], first[-1]) == ("46.0,33.4", "506.0,226.0")  # 0.9 down to 0
    assert insertion.lines[0].points.split()[-1] == "506.0,33.4"
    assert deletion.title == "Deletion: mean probability (n = 256)"


def test_the_cascade_names_its_parts() -> None:
    cascade = chart("Maps after random weights: rank correlation")
    assert [tick.text for tick in cascade.x_ticks] == ["linear", "group3", "group2", "group1"]
    assert cascade.summary.endswith("teacher 0.90 to 0.23, CE 0.60 to 0.15, KD 0.80 to 0.20")


def test_networks_of_other_parts_are_counted() -> None:
    record = make_record()
    for row in record["sets"]["unbiased"]["networks"]["teacher"]["sanity"] or []:
        row["part"] = "layer of " + row["part"]
    (found,) = [one for one in collect_evidence(record, STYLES)[0].charts if "rank correlation" in one.title]
    assert [tick.text for tick in found.x_ticks] == ["1", "2", "3", "4"]
    assert found.x_label.startswith("number of randomised parts")


def test_strata_fill_the_bar() -> None:
    strata = dict(evidence().strata)
    assert list(strata) == ["CE", "KD"]
    assert [(cell.start, cell.width, cell.n, cell.cosine) for cell in strata["KD"]] == [
        (0.0, 60.0, 240, "0.800"),
        (60.0, 15.0, 60, "0.800"),
        (75.0, 10.0, 40, "0.800"),
        (85.0, 15.0, 60, "0.800"),
        (100.0, 0.0, 0, "–"),
    ]


def test_the_reference_has_no_agreement_with_itself_under_a_held_out_explainer() -> None:
    teacher, student, _ = evidence().held_out
    assert (teacher.network, teacher.explainer, teacher.cosine) == ("teacher", "input_x_gradient", None)
    assert teacher.energy is not None
    assert teacher.energy.text == "31.2%"
    assert student.cosine is not None
    assert (student.cosine.text, student.cosine.n) == ("0.600", 64)


def test_what_was_not_measured_is_left_out() -> None:
    plain = collect_evidence(make_record(), STYLES)[1]
    assert (plain.charts, plain.strata, plain.held_out, plain.comparisons) == ((), (), (), ())
