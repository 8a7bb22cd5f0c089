"""Where the time of one step goes, by torch.profiler."""

from __future__ import annotations

from torch.profiler import ProfilerActivity, profile

from .setting import TERM_AT_FINAL, Row, Setting
from .steps import make_step

SHOWN = 15


def measure_profile(setting: Setting) -> list[Row]:
    """Profile one step of the term at final after two others; the operators that cost most by themselves."""
    step = make_step(
        TERM_AT_FINAL, setting.precision, batch=setting.batch, teacher=setting.teacher, student=setting.student
    )
    for _ in range(2):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    found = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in found)
    return [
        {
            "operator": event.key,
            "precision": setting.precision,
            "batch": setting.batch,
            "calls": event.count,
            "milliseconds": event.self_cpu_time_total / 1000,
            "share": event.self_cpu_time_total / total,
        }
        for event in found[:SHOWN]
    ]
