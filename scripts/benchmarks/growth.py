"""Time and memory of the term as batch, image size, classes or width grow, one at a time."""

from __future__ import annotations

import re
from typing import Any

from .pairs import alternate, pair_ratios, spread
from .setting import REFERENCE, TERM_AT_FINAL, Row, Setting
from .steps import make_step
from .worker import ask


def points(setting: Setting) -> list[tuple[str, str, dict[str, Any]]]:
    """List the measurements as (axis, value, changes); the first batch is the base."""
    first, last = setting.batches[0], setting.batches[-1]
    listed: list[tuple[str, str, dict[str, Any]]] = [("base", _describe(setting, first), {})]
    listed += [("batch", str(n), {"batch": n}) for n in dict.fromkeys([first // 2, last, 2 * last]) if n != first]
    listed += [("image size", f"{n} x {n}", {"size": n}) for n in (48, 64)]
    listed += [("classes", str(n), {"classes": n}) for n in (100, 1000)]
    listed += [("student", name, {"student": name}) for name in widths(setting.student)]
    return listed


def widths(student: str) -> list[str]:
    """Return the WRNs with half and twice the width; an empty list for another network.

    Example:
        >>> widths("wrn_16_2"), widths("wrn_10_1"), widths("resnet18")
        (['wrn_16_1', 'wrn_16_4'], ['wrn_10_2'], [])
    """
    matched = re.fullmatch(r"wrn_(\d+)_(\d+)", student)
    if matched is None:
        return []
    depth, width = (int(part) for part in matched.groups())
    return [f"wrn_{depth}_{n}" for n in ([width // 2] if width % 2 == 0 else []) + [2 * width]]


def measure_growth(setting: Setting) -> list[Row]:
    """Compare the term with KD alone at every point, in the last precision."""
    rows: list[Row] = []
    for axis, value, changes in points(setting):
        step = {
            "precision": setting.precision,
            "batch": setting.batches[0],
            "teacher": setting.teacher,
            "student": setting.student,
            **changes,
        }
        names = (REFERENCE, TERM_AT_FINAL)
        seconds = alternate({n: make_step(n, **step) for n in names}, rounds=setting.rounds_or(5), warm_up=1)
        peaks = {n: ask({"what": "step", "variant": n, **step}, threads=setting.threads)["peak_mib"] for n in names}
        rows.append(
            {
                "axis": axis,
                "value": value,
                "precision": setting.precision,
                "reference_seconds": spread(seconds[REFERENCE])["median"],
                "seconds": spread(seconds[TERM_AT_FINAL])["median"],
                "ratio": pair_ratios(seconds[TERM_AT_FINAL], seconds[REFERENCE]),
                "reference_peak_mib": peaks[REFERENCE],
                "peak_mib": peaks[TERM_AT_FINAL],
                "peak_ratio": peaks[TERM_AT_FINAL] / peaks[REFERENCE],
            }
        )
    return rows


def _describe(setting: Setting, batch: int) -> str:
    return f"batch {batch}, 32 x 32, 10 classes, {setting.student}"
