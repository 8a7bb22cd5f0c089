"""What a drawing of an ablation shows: series of means and single seeds, in the units in which they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from distill.ablation.findings import Spread
from distill.ablation.summary import measure_of

Point = tuple[float, float]


@dataclass(frozen=True)
class Mean:
    """A mean at a place, and its interval along the axis of values where more than one seed is behind it."""

    x: float
    y: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Series:
    """What has one colour and one marker: means, and single seeds as dots."""

    name: str
    means: tuple[Mean, ...]
    dots: tuple[Point, ...]


@dataclass(frozen=True)
class Plot:
    """One drawing.

    Args:
        kind: ``rows`` has a row at every y, ``axis`` a value of an axis at every x, ``pairs`` a dot for every trial.
        name: Of its file, without an ending; no two of an ablation have the same.
        title: What is drawn.
        x_label: What lies along x.
        y_label: What lies along y.
        series: At least one.
        places: What stands at which place of the axis that is no figure: rows at y, values at x.
        words: The drawing in words.
        reference: The baseline's mean.
        logarithmic: Whether x is.
    """

    kind: Literal["rows", "axis", "pairs"]
    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    places: Mapping[float, str]
    words: str
    reference: float | None = None
    logarithmic: bool = False


def aside(plot: Plot, index: int) -> float:
    """Say by how many points a series of a drawing by axis stands beside its place: intervals do not cover each other.

    Example:
        >>> series = tuple(Series(name, (), ()) for name in "ab")
        >>> plot = Plot("axis", "", "", "", "", series, {}, "")
        >>> aside(plot, 0), aside(plot, 1)
        (-3.0, 3.0)
    """
    count = len(plot.series)
    return (index - (count - 1) / 2) * min(6, 40 / count) if plot.kind == "axis" else 0.0


def label(metric: str) -> str:
    """Name a figure as the axis of a drawing does.

    Example:
        >>> label("unbiased/accuracy"), label("unbiased/map_cosine")
        ('Accuracy (%)', 'Map cosine')
    """
    measure = measure_of(metric)
    return f"{measure.title} (%)" if measure.style == "percent" else measure.title


def scaled(metric: str, value: float) -> float:
    """Give a figure as it is drawn: per cent, or the number itself."""
    return 100 * value if measure_of(metric).style == "percent" else value


def drawn_mean(metric: str, figure: Spread, *, at: float, flat: bool) -> Mean | None:
    """Place a row's mean and interval at a position of the other axis; None where it was not measured.

    Args:
        metric: The figure.
        figure: Its mean over the seeds.
        at: The position.
        flat: Whether figures lie along x.
    """
    if figure["mean"] is None:
        return None
    value = scaled(metric, figure["mean"])
    low, high = (None if end is None else scaled(metric, end) for end in (figure["low"], figure["high"]))
    return Mean(value, at, low, high) if flat else Mean(at, value, low, high)


def word(value: Any) -> str:
    """Write a value as it stands in a drawing.

    Example:
        >>> word(True), word(5.0), word("l2")
        ('true', '5', 'l2')
    """
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value).replace('"', "")
