"""Alternating measurements, and the median of pairs that is made of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypedDict


class Spread(TypedDict):
    """A median with the quartiles around it."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Give median and quartiles; the quartiles of one value are that value.

    Example:
        >>> spread([4.0, 1.0, 2.0, 3.0, 5.0])
        {'median': 3.0, 'low': 2.0, 'high': 4.0}
    """
    if len(values) == 1:
        return Spread(median=values[0], low=values[0], high=values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median=median, low=low, high=high)


def pair_ratios(mine: Iterable[float], reference: Iterable[float]) -> Spread:
    """Divide what was measured in the same round, then take the median: what slows both down falls out.

    Raises:
        ValueError: if one has more rounds than the other.

    Example:
        >>> pair_ratios([2.0, 30.0, 3.0], [1.0, 10.0, 2.0])["median"]
        2.0
    """
    return spread([a / b for a, b in zip(mine, reference, strict=True)])


def seconds_of(run: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def alternate(runs: Mapping[str, Callable[[], object]], *, rounds: int, warm_up: int) -> dict[str, list[float]]:
    """Time every one in turn, round after round, each second round in the opposite order.

    Returns:
        Seconds by name, one a round; the rounds of the warm-up are left out.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(warm_up + rounds):
        names = list(runs) if number % 2 == 0 else list(runs)[::-1]
        for name in names:
            took = seconds_of(runs[name])
            if number >= warm_up:
                seconds[name].append(took)
    return seconds
