"""Peak memory of a step and of a whole run, each in a separate process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from .pairs import pair_ratios, spread
from .recipes import COLD, WARM, random_teacher
from .setting import FLOOR, REFERENCE, TERM_AT_FINAL, VARIANTS, WITHOUT_TEACHER, Row, Setting
from .worker import ask

RUNS = (WITHOUT_TEACHER, REFERENCE, TERM_AT_FINAL, COLD, WARM)


def measure_memory(setting: Setting) -> list[Row]:
    """Measure every variant's step in each precision and whole runs in the last one, with the last batch size."""
    rounds = setting.rounds_or(2)
    common = {"student": setting.student, "batch": setting.batch}
    rows: list[Row] = []
    for precision in setting.precisions:
        task = {"what": "step", "precision": precision, "teacher": setting.teacher, **common}
        tasks = {name: {**task, "variant": name} for name in (FLOOR, *VARIANTS)}
        measured = [{name: ask(one, threads=setting.threads) for name, one in tasks.items()} for _ in range(rounds)]
        rows += _rows(measured, task)
    with tempfile.TemporaryDirectory() as root:
        random_teacher(Path(root), setting.teacher)
        task = {"what": "epoch", "precision": setting.precision, "folder": root, **common}
        ask({**task, "variant": WARM, "name": "fill"}, threads=setting.threads)
        measured = [
            {
                name: ask({**task, "variant": name, "name": f"{number}-{place}"}, threads=setting.threads)
                for place, name in enumerate(RUNS)
            }
            for number in range(rounds)
        ]
    return rows + _rows(measured, task)


def _rows(measured: list[dict[str, Row]], task: dict[str, Any]) -> list[Row]:
    peaks = {name: [answers[name]["peak_mib"] for answers in measured] for name in measured[0]}
    before = {name: [answers[name]["before_mib"] for answers in measured] for name in measured[0]}
    added = {name: [a - b for a, b in zip(peaks[name], before[name], strict=True)] for name in peaks}
    return [
        {
            "precision": task["precision"],
            "batch": task["batch"],
            "what": task["what"],
            "variant": name,
            "peak_mib": spread(peaks[name])["median"],
            "before_mib": spread(before[name])["median"],
            "ratio": pair_ratios(peaks[name], peaks[REFERENCE]),
            "added_ratio": pair_ratios(added[name], added[REFERENCE]),
            "teacher_cache_hits": min(answers[name]["hits"] for answers in measured) if name in (COLD, WARM) else None,
        }
        for name in peaks
    ]
