"""Time of one step by operator, measured with torch.profiler."""

from __future__ import annotations

from torch.profiler import ProfilerActivity, profile

from .setting import TERM_AT_FINAL, Row, Setting
from .steps import make_step

SHOWN = 15


def measure_profile(setting: Setting) -> list[Row]:
    """Profile one step of the term at final after two warm-up steps; the operators with the most self time."""
    step = make_step(
        TERM_AT_FINAL, setting.precision, batch=setting.batch, teacher=setting.teacher, student=setting.student
    )
    for _ in range(2):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    return [
        {
            "operator": event.key,
            "precision": setting.precision,
            "batch": setting.batch,
            "calls": event.count,
            "milliseconds": event.self_cpu_time_total / 1000,
            "share": event.self_cpu_time_total / total,
        }
        for event in events[:SHOWN]
    ]
