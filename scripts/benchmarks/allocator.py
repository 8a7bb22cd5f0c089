"""Time, page faults and peak memory with and without the allocator setting of `distill.malloc`."""

from __future__ import annotations

from .pairs import pair_ratios, spread
from .setting import Row, Setting
from .worker import MAP_LAYER, ask

#: Batches of the tasks without training: that of a training step, and that of validation and evaluation.
SMALL, LARGE = 64, 256
OFF, ON = "off", "on"


def measure_allocator(setting: Setting) -> list[Row]:
    """Measure tasks in float32, in fresh processes that have the allocator setting and that do not, in turn."""
    tasks = [
        (name, kind, batch)
        for name, kind in (
            (f"forward, {setting.student}", "student"),
            (f"maps at {MAP_LAYER}, {setting.student}", "maps"),
            (f"forward, {setting.teacher}", "teacher"),
        )
        for batch in (SMALL, LARGE)
    ]
    tasks += [("training step", "step", batch) for batch in setting.batches]
    common = {"what": "allocator", "teacher": setting.teacher, "student": setting.student}
    rows: list[Row] = []
    for name, kind, batch in tasks:
        answers: dict[str, list[Row]] = {OFF: [], ON: []}
        for number in range(setting.rounds_or(3)):
            for state in (OFF, ON) if number % 2 == 0 else (ON, OFF):
                task = {**common, "kind": kind, "batch": batch, "keep": state == ON}
                answers[state].append(ask(task, threads=setting.threads))
        seconds = {state: [row["seconds"] for row in measured] for state, measured in answers.items()}
        for state, measured in answers.items():
            rows.append(
                {
                    "task": name,
                    "images": measured[0]["images"],
                    "batch": batch,
                    "setting": state,
                    "seconds": spread(seconds[state])["median"],
                    "ratio": pair_ratios(seconds[state], seconds[OFF]),
                    **{
                        key: spread([row[key] for row in measured])["median"]
                        for key in ("system_seconds", "page_faults", "peak_mib")
                    },
                }
            )
    return rows
