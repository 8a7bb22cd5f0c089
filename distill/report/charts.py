"""Series -> the geometry of small line charts, which the template draws as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distill.report.curves import Curves

WIDTH, HEIGHT = 520, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 34
#: Runs take these in turn: a colour, a dash pattern and a marker each, so that no two differ by colour alone.
STYLES = 6


@dataclass(frozen=True)
class Line:
    """One run: its style, the points of the line, those that carry a marker, and its last value."""

    run: str
    style: int
    points: str
    markers: tuple[tuple[float, float], ...]
    last: str


@dataclass(frozen=True)
class Tick:
    """A position in the drawing, and what stands there."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """One metric of all runs."""

    title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]

    @property
    def summary(self) -> str:
        """The chart in words."""
        return f"{self.title} by epoch. Last values: " + ", ".join(f"{line.run} {line.last}" for line in self.lines)


def make_charts(runs: Sequence[Curves]) -> list[Chart]:
    """Draw every metric that any run logged, those of the validation first."""
    names = list(dict.fromkeys(name for run in runs for name in run.series))
    order = {"validation": 0, "train": 1}
    names.sort(key=lambda name: (order.get(name.partition("/")[0], 2), name != "validation/accuracy"))
    return [_chart(name, runs) for name in names]


def title(metric: str) -> str:
    """Word the name of a metric.

    Example:
        >>> title("validation/accuracy"), title("train/soft_targets")
        ('Validation: accuracy', 'Training: soft targets')
    """
    group, _, name = metric.rpartition("/")
    words = {"train": "Training", "validation": "Validation", "": ""}.get(group, group)
    return (f"{words}: {name}" if words else name).replace("_", " ")


def _chart(metric: str, runs: Sequence[Curves]) -> Chart:
    from matplotlib.ticker import MaxNLocator

    points = [(x, y) for run in runs for x, y in run.series.get(metric, ())]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x_values = [x for x in MaxNLocator(6, integer=True).tick_values(min(xs), max(xs)) if min(xs) <= x <= max(xs)]
    y_values = [float(y) for y in MaxNLocator(4).tick_values(min(ys), max(ys))]
    x_scale = _Scale(min(xs), max(xs), _LEFT, WIDTH - _RIGHT)
    y_scale = _Scale(y_values[0], y_values[-1], HEIGHT - _BOTTOM, _TOP)
    return Chart(
        title(metric),
        tuple(Tick(x_scale(x), f"{x:g}") for x in x_values),
        tuple(Tick(y_scale(y), f"{y:.6g}") for y in y_values),
        tuple(
            _line(run.run, i, [(x_scale(x), y_scale(y)) for x, y in run.series[metric]], run.series[metric][-1][1])
            for i, run in enumerate(runs)
            if run.series.get(metric)
        ),
    )


def _line(run: str, index: int, points: list[tuple[float, float]], last: float) -> Line:
    every = max(1, len(points) // 6)
    return Line(
        run,
        index % STYLES,
        " ".join(f"{x:.1f},{y:.1f}" for x, y in points),
        tuple(points[::-every]),
        f"{last:.4g}",
    )


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.start + share * (self.end - self.start), 1)
