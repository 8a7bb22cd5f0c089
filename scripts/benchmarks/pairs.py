"""Alternating measurements, and medians of paired ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypedDict


class Spread(TypedDict):
    """A median with its quartiles."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles; those of a single value are the value.

    Example:
        >>> spread([4.0, 1.0, 2.0, 3.0, 5.0])
        {'median': 3.0, 'low': 2.0, 'high': 4.0}
    """
    if len(values) == 1:
        return Spread(median=values[0], low=values[0], high=values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median=median, low=low, high=high)


def pair_ratios(values: Iterable[float], reference: Iterable[float]) -> Spread:
    """Divide the measurements of each round and return the median, so that a slower round affects both equally.

    Raises:
        ValueError: if the numbers of rounds differ.

    Example:
        >>> pair_ratios([2.0, 30.0, 3.0], [1.0, 10.0, 2.0])["median"]
        2.0
    """
    return spread([a / b for a, b in zip(values, reference, strict=True)])


def seconds_of(run: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def alternate(runs: Mapping[str, Callable[[], object]], *, rounds: int, warm_up: int) -> dict[str, list[float]]:
    """Time all functions in turn, every second round in the opposite order.

    Returns:
        Seconds by name, one per round, without the warm-up rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(warm_up + rounds):
        names = list(runs) if number % 2 == 0 else list(runs)[::-1]
        for name in names:
            took = seconds_of(runs[name])
            if number >= warm_up:
                seconds[name].append(took)
    return seconds
