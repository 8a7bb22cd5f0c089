"""An ablation -> what its drawings show: figures by row, against an axis of the grid, and against each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from distill.ablation.axes import axis_plot
from distill.ablation.numbers import format_value
from distill.ablation.records import AblationRecord
from distill.ablation.series import Plot, Series, drawn_mean, label, scaled
from distill.ablation.summary import Summary, Trials, measure_of, sort_trials, values_by_seed

#: Figures that accuracy is drawn against.
_AGAINST = ("agreement", "map_cosine")


def make_plots(record: AblationRecord, summary: Summary) -> list[Plot]:
    """Choose what is drawn: every figure by row; accuracy against every axis, agreement and the cosine of the maps.

    Convention:
        - Per cent are drawn as such: 72.5, not 0.725.
        - What was not measured of any row is left out, and so is an axis with a single value.
    """
    trials = sort_trials(record)
    plots = [_rows(summary, trials, metric) for metric in summary["metrics"]]
    by_set: dict[str, list[str]] = {}
    for metric in summary["metrics"]:
        by_set.setdefault(metric.rpartition("/")[0], []).append(metric)
    for where, metrics in by_set.items():
        accuracy = f"{where}/accuracy"
        main = accuracy if accuracy in metrics else metrics[0]
        found = (axis_plot(record, summary, trials, main, key) for key in record["axes"])
        plots += [plot for plot in found if plot is not None]
        if main == accuracy:
            others = [f"{where}/{figure}" for figure in _AGAINST]
            plots += [_pairs(trials, other, accuracy) for other in others if other in metrics]
    return _distinct([plot for plot in plots if any(one.means or one.dots for one in plot.series)])


def _rows(summary: Summary, trials: Trials, metric: str) -> Plot:
    where, style = metric.rpartition("/")[0], measure_of(metric).style
    means, dots, words = [], [], []
    for y, row in enumerate(summary["rows"]):
        figure = summary["findings"][metric][row]["figure"]
        mean = drawn_mean(metric, figure, at=y, flat=True)
        if mean is not None and figure["mean"] is not None:
            means.append(mean)
            words.append(f"{row} {format_value(figure['mean'], style)}")
        dots += [(scaled(metric, value), float(y)) for value in values_by_seed(trials[row], metric).values()]
    baseline = summary["findings"][metric][summary["baseline"]]["figure"]["mean"]
    title = f"{measure_of(metric).title} by row, {where}"
    return Plot(
        "rows",
        f"rows-{metric}",
        title,
        label(metric),
        "",
        (Series("", tuple(means), tuple(dots)),),
        dict(enumerate(summary["rows"])),
        f"{title}. Means: {', '.join(words)}",
        None if baseline is None or summary["within"] else scaled(metric, baseline),
    )


def _pairs(trials: Trials, across: str, along: str) -> Plot:
    series = []
    for row, own in trials.items():
        first, second = values_by_seed(own, across), values_by_seed(own, along)
        dots = [(scaled(across, first[seed]), scaled(along, second[seed])) for seed in first if seed in second]
        series.append(Series(row, (), tuple(dots)))
    x, y, where = measure_of(across).title, measure_of(along).title, along.rpartition("/")[0]
    title = f"{y} against {x.lower()}, {where}"
    count = sum(len(one.dots) for one in series)
    words = f"{title}: a dot for each of {count} trials."
    return Plot("pairs", f"pairs-{along}-{across}", title, label(across), label(along), tuple(series), {}, words)


def _distinct(plots: Sequence[Plot]) -> list[Plot]:
    """Give every drawing a file name of its own."""
    taken: list[str] = []
    for plot in plots:
        slug = re.sub(r"[^a-z0-9._]+", "-", plot.name.lower()).strip("-.")
        same = sum(re.fullmatch(rf"{re.escape(slug)}(~\d+)?", name) is not None for name in taken)
        taken.append(f"{slug}~{same + 1}" if same else slug)
    return [replace(plot, name=name) for plot, name in zip(plots, taken, strict=True)]
