"""Series -> the geometry of small line charts, which the template draws as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.report.common.curves import Curves

WIDTH, HEIGHT = 520, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 34
#: Runs take these in turn: a colour, a dash pattern and a marker each, so that no two differ by colour alone.
STYLES = 6


@dataclass(frozen=True)
class Series:
    """What one line goes through: whose it is, its style, and whether its points are marked."""

    run: str
    style: int
    points: Sequence[tuple[float, float]]
    marked: bool = True


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
    """One quantity of all runs; ``summary`` is the drawing in words."""

    title: str
    x_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    summary: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    summary: str | None = None,
    x_names: Mapping[float, str] | None = None,
    y_range: tuple[float, float] | None = None,
) -> Chart:
    """Lay lines out in one drawing.

    Args:
        title: What is drawn.
        series: Its lines; at least one point among them.
        x_label: What x counts.
        summary: The drawing in words; the last values by default.
        x_names: What stands at which x; round numbers by default.
        y_range: What y spans at least.
    """
    from matplotlib.ticker import MaxNLocator

    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points] + list(y_range or ())
    whole = all(float(x).is_integer() for x in xs)
    x_values = [x for x in MaxNLocator(6, integer=whole).tick_values(min(xs), max(xs)) if min(xs) <= x <= max(xs)]
    names = x_names or {x: f"{x:g}" for x in x_values}
    y_values = [float(y) for y in MaxNLocator(4).tick_values(min(ys), max(ys))]
    x_scale = _Scale(min(xs), max(xs), _LEFT, WIDTH - _RIGHT)
    y_scale = _Scale(y_values[0], y_values[-1], HEIGHT - _BOTTOM, _TOP)
    lines = tuple(_line(one, [(x_scale(x), y_scale(y)) for x, y in one.points]) for one in series if one.points)
    last = ", ".join(f"{line.run} {line.last}" for line in lines)
    return Chart(
        title,
        x_label,
        tuple(Tick(x_scale(x), text) for x, text in names.items()),
        tuple(Tick(y_scale(y), f"{y:.6g}") for y in y_values),
        lines,
        summary or f"{title} by {x_label}. Last values: {last}",
    )


def make_charts(runs: Sequence[Curves], styles: Mapping[str, int] | None = None) -> list[Chart]:
    """Draw every metric that any run logged, those of the validation first.

    Args:
        runs: Their logs.
        styles: Which style a run has elsewhere on the page; its position by default.
    """
    names = list(dict.fromkeys(name for run in runs for name in run.series))
    order = {"validation": 0, "train": 1}
    names.sort(key=lambda name: (order.get(name.partition("/")[0], 2), name != "validation/accuracy"))
    taken = styles or {run.run: i % STYLES for i, run in enumerate(runs)}
    return [
        line_chart(
            metric_title(name),
            [Series(run.run, taken[run.run], run.series[name]) for run in runs if run.series.get(name)],
            x_label="epoch",
        )
        for name in names
    ]


def metric_title(metric: str) -> str:
    """Word the name of a metric.

    Example:
        >>> metric_title("validation/accuracy"), metric_title("train/soft_targets")
        ('Validation: accuracy', 'Training: soft targets')
    """
    group, _, name = metric.rpartition("/")
    words = {"train": "Training", "validation": "Validation", "": ""}.get(group, group)
    return (f"{words}: {name}" if words else name).replace("_", " ")


def _line(series: Series, points: list[tuple[float, float]]) -> Line:
    every = max(1, len(points) // 6)
    return Line(
        series.run,
        series.style,
        " ".join(f"{x:.1f},{y:.1f}" for x, y in points),
        tuple(points[::-every]) if series.marked else (),
        f"{series.points[-1][1]:.4g}",
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
