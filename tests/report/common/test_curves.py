"""From the log of a run to lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.errors import InputError
from distill.report import Curves, read_curves
from distill.report.common.charts import make_charts

LOG = """epoch,step,train/loss,validation/accuracy
0,10,2.5,
0,10,,0.5
1,20,2.0,
1,20,,0.625
1,20,1.5,
2,30,nan,0.75
"""


def test_series_are_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(LOG)
    expected = {"train/loss": [(0, 2.5), (1, 1.5)], "validation/accuracy": [(0, 0.5), (1, 0.625), (2, 0.75)]}
    assert read_curves(tmp_path, run="KD") == Curves("KD", expected)
    assert read_curves(tmp_path / "metrics.csv", run="KD") == Curves("KD", expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,loss\n1,2\n", "no column 'epoch'; columns: step, loss"),
        ("", "no column 'epoch'; columns: none"),
        ("epoch,loss\n0,1\n1,high\n", "line 3: could not convert string to float: 'high'"),
        ("epoch,loss\n,1\n", "line 2: "),
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_curves(path, run="KD")


def test_a_run_without_a_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r": no such file; give the directory of a run that has written metrics.csv"):
        read_curves(tmp_path, run="KD")


def test_a_line_goes_through_its_values() -> None:
    (chart,) = make_charts([Curves("KD", {"validation/accuracy": [(0, 0.0), (5, 1.0), (10, 0.5)]})])
    (line,) = chart.lines
    # the drawing is 520 x 260 with 46 left, 14 right, 12 above and 34 below
    assert line.points == "46.0,226.0 276.0,12.0 506.0,119.0"
    assert line.last == "0.5"
    assert {tick.text: tick.at for tick in chart.y_ticks} == {
        "0": 226.0,
        "0.25": 172.5,
        "0.5": 119.0,
        "0.75": 65.5,
        "1": 12.0,
    }


def test_validation_comes_first_and_a_run_keeps_its_style() -> None:
    runs = [
        Curves("CE", {"train/loss": [(0, 1.0)], "validation/accuracy": [(0, 0.5)]}),
        Curves("KD", {"train/soft_targets": [(0, 1.0)], "validation/agreement": [(0, 0.5)]}),
    ]
    charts = make_charts(runs)
    assert [chart.title for chart in charts] == [
        "Validation: accuracy",
        "Validation: agreement",
        "Training: loss",
        "Training: soft targets",
    ]
    assert [[(line.run, line.style) for line in chart.lines] for chart in charts] == [
        [("CE", 0)],
        [("KD", 1)],
        [("CE", 0)],
        [("KD", 1)],
    ]


@pytest.mark.parametrize("value", [0.0, 0.3, -2.0, 1e-9, 1e6])
def test_one_value_alone_is_drawn_inside(value: float) -> None:
    (chart,) = make_charts([Curves("KD", {"train/loss": [(4, value)]})])
    x, y = (float(part) for part in chart.lines[0].points.split(","))
    assert 46 <= x <= 506
    assert 12 <= y <= 226


def test_no_run_no_chart() -> None:
    assert make_charts([]) == []
    assert make_charts([Curves("KD", {})]) == []
