"""What is drawn of an ablation, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from distill.ablation.statistics import summarise
from distill.report.ablation.plot_drawing import PlotLayout, layout_plot, save_plots, series_style
from distill.report.ablation.plot_drawing import _draw as draw_picture
from distill.report.ablation.plots import Plot, make_plots
from distill.report.ablation.record import AblationRecord
from tests.ablation.records import record, swept, typical

WEIGHT, LAYER = "objective.explanation.weight", "objective.explanation.layer"


def plots(made: AblationRecord) -> dict[str, Plot]:
    return {plot.name: plot for plot in make_plots(made, summarise(made))}


def grid(key: str, values: list[Any], **others: list[Any]) -> AblationRecord:
    """One row a value, two seeds each; other keys move along."""
    axes: dict[str, list[Any]] = {key: values, **{name.replace("__", "."): along for name, along in others.items()}}
    rows = {
        f"{key.rpartition('.')[2]}={value}": {seed: {"test/accuracy": 0.5} for seed in range(2)} for value in values
    }
    settings = {row: {name: along[i] for name, along in axes.items()} for i, row in enumerate(rows)}
    return record(rows, baseline=next(iter(rows)), metrics=["test/accuracy"], axes=axes, settings=settings)


def test_what_is_drawn() -> None:
    assert list(plots(typical())) == [
        "rows-unbiased-accuracy",
        "rows-unbiased-map_cosine",
        "pairs-unbiased-accuracy-unbiased-map_cosine",
    ]
    assert list(plots(swept())) == [
        "rows-test-accuracy",
        "rows-test-agreement",
        f"axis-{WEIGHT}-test-accuracy",
        f"axis-{LAYER}-test-accuracy",
        "pairs-test-accuracy-test-agreement",
    ]


def test_every_seed_is_a_dot_and_every_row_a_mean() -> None:
    made = typical()
    plot = plots(made)["rows-unbiased-accuracy"]
    (series,) = plot.series
    drawn = sorted((y, round(x, 9)) for x, y in series.dots)
    there = sorted(
        (float(made["rows"].index(trial["row"])), round(100 * value, 9))
        for trial in made["trials"]
        if (value := trial["figures"].get("unbiased/accuracy")) is not None
    )
    assert drawn == there
    assert [mean.y for mean in series.means] == [0, 1, 2, 3]
    assert series.means[1].x == pytest.approx(66.01875)
    assert plot.reference == pytest.approx(70)
    assert plot.x_label == "Accuracy (%)"
    assert "CE + KD + maps 72.02%" in plot.summary


def test_a_line_joins_rows_that_differ_in_one_key() -> None:
    plot = plots(swept())[f"axis-{WEIGHT}-test-accuracy"]
    assert [series.name for series in plot.series] == ["layer=final", "layer=group2"]
    assert [mean.x for mean in plot.series[1].means] == [1, 5, 20]
    assert [mean.y for mean in plot.series[1].means] == pytest.approx([75.1, 76.1, 77.1])
    assert plot.logarithmic
    layers = plots(swept())[f"axis-{LAYER}-test-accuracy"]
    assert layers.labels == {0.0: "final", 1.0: "group2"}
    assert not layers.logarithmic


@pytest.mark.parametrize(
    ("values", "places", "logarithmic"),
    [
        ([0.5, 0.7, 0.9], [0.5, 0.7, 0.9], False),
        ([20, 5.0, 1], [1, 5, 20], True),
        ([5, 0, 1, 20], [0, 1, 2, 3], False),
        (["l2", "max"], [0, 1], False),
    ],
)
def test_where_values_stand(values: list[Any], places: list[float], logarithmic: bool) -> None:
    plot = plots(grid("data.key", values))["axis-data.key-test-accuracy"]
    assert list(plot.labels) == places
    assert plot.logarithmic is logarithmic


def test_keys_that_move_along_are_one_axis() -> None:
    made = plots(grid("data.count", [200, 500], trainer__max_epochs=[30, 12]))
    assert [name for name in made if name.startswith("axis")] == ["axis-data.count-test-accuracy"]


def test_one_factor_at_a_time_is_a_line_through_the_default() -> None:
    settings = {
        "default": {WEIGHT: 5, LAYER: "final"},
        "weight=1": {WEIGHT: 1, LAYER: "final"},
        "weight=20": {WEIGHT: 20, LAYER: "final"},
        "layer=group2": {WEIGHT: 5, LAYER: "group2"},
    }
    rows = {row: {seed: {"test/accuracy": 0.5} for seed in range(2)} for row in settings}
    axes: dict[str, list[Any]] = {WEIGHT: [1, 20], LAYER: ["group2"]}
    made = plots(record(rows, baseline="default", metrics=["test/accuracy"], axes=axes, settings=settings))
    weight, layer = (made[f"axis-{key}-test-accuracy"] for key in (WEIGHT, LAYER))
    assert [mean.x for mean in weight.series[0].means] == [1, 5, 20]
    assert list(layer.labels.values()) == ["final", "group2"]
    assert [series.name for series in (*weight.series, *layer.series)] == ["default", "default"]


def drawing(made: AblationRecord, name: str) -> PlotLayout:
    return layout_plot(plots(made)[name])


def test_geometry_of_a_scatter() -> None:
    rows: dict[str, dict[int, Any]] = {
        "KD": {0: {"test/accuracy": 0.0, "test/map_cosine": 0.0}},
        "maps": {0: {"test/accuracy": 1.0, "test/map_cosine": 0.5}},
    }
    made = record(rows, baseline="KD", metrics=["test/accuracy", "test/map_cosine"])
    first, second = drawing(made, "pairs-test-accuracy-test-map_cosine").series
    # the drawing is 520 x 300 with 50 left, 16 right, 14 above and 40 below
    assert first.dots == ((50.0, 260.0),)
    assert second.dots == ((504.0, 14.0),)
    assert (first.colour, first.shape) != (second.colour, second.shape)


@pytest.mark.parametrize("make", [typical, swept])
def test_everything_lies_inside(make: Any) -> None:
    for name in plots(make()):
        made = drawing(make(), name)
        for group in made.series:
            points = [
                *group.dots,
                *group.marks,
                *((x, y) for x1, y1, x2, y2 in group.whiskers for x, y in ((x1, y1), (x2, y2))),
            ]
            assert points
            assert all(made.left <= x <= made.right and made.top <= y <= made.bottom for x, y in points)


def test_series_stand_side_by_side_about_the_value_that_they_share() -> None:
    made = drawing(swept(), f"axis-{WEIGHT}-test-accuracy")
    first, second = made.series
    for tick, one, other in zip(made.x_ticks, first.marks, second.marks, strict=True):
        assert (one[0], other[0]) == pytest.approx((tick.at - 3, tick.at + 3))
    assert {x for x, _ in first.dots} == {x for x, _ in first.marks}
    assert [whisker[0] for whisker in second.whiskers] == [x for x, _ in second.marks]


@pytest.mark.parametrize("make", [typical, swept])
def test_all_values_lie_within_the_limits_of_a_picture(make: Any) -> None:
    for plot in plots(make()).values():
        figure = Figure()
        draw_picture(plot, figure)
        (axes,) = figure.axes
        (left, right), (low, high) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
        dots = [dot for series in plot.series for dot in series.dots]
        assert dots
        assert all(left <= x <= right and low <= y <= high for x, y in dots)
        lines = [np.asarray(line.get_xydata()) for line in axes.lines]
        assert all(any(np.allclose(line, [dot], atol=0.2) for line in lines if len(line) == 1) for dot in dots)


def test_eighteen_series_look_different() -> None:
    assert len({series_style(i) for i in range(18)}) == 18


def test_names_of_files_differ() -> None:
    rows: dict[str, dict[int, Any]] = {"KD": {0: {"a b/accuracy": 0.5, "a-b/accuracy": 0.5, "A/b/accuracy": 0.5}}}
    made = record(rows, baseline="KD", metrics=list(rows["KD"][0]))
    assert list(plots(made)) == ["rows-a-b-accuracy", "rows-a-b-accuracy~2", "rows-a-b-accuracy~3"]


def test_pictures_are_drawn_alike_every_time(tmp_path: Path) -> None:
    made = list(plots(swept()).values())
    first, again = (save_plots(made, tmp_path / name) for name in ("first", "again"))
    assert [path.name for path in first] == [f"{plot.name}.png" for plot in made]
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
        pixels = np.asarray(Image.open(one).convert("RGB"))
        assert pixels[0, 0].tolist() == [255, 255, 255]
        assert (np.abs(pixels.astype(int) - [0x2F, 0x4B, 0x7C]).sum(-1) < 12).sum() > 100
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == sorted(path.name for path in first)
