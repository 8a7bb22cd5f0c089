"""One process compared with two that divide the batch and the threads (DDP, gloo)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from .pairs import pair_ratios, spread
from .recipes import random_teacher
from .setting import TERM_AT_FINAL, Row, Setting
from .worker import launch


def measure_ddp(setting: Setting) -> list[Row]:
    """Measure epochs of the term at final with one process and with two, in turn; images per step are the same."""
    half = max(setting.threads // 2, 1)
    kinds = {1: {"threads": setting.threads}, 2: {"threads": half}}
    answers: dict[int, list[Row]] = {processes: [] for processes in kinds}
    with tempfile.TemporaryDirectory() as root:
        random_teacher(Path(root), setting.teacher)
        for number in range(setting.rounds_or(2)):
            for processes, kind in kinds.items():
                task = {
                    "what": "parallel",
                    "folder": root,
                    "variant": TERM_AT_FINAL,
                    "name": f"{number}-{processes}",
                    "student": setting.student,
                    "precision": setting.precision,
                    "batch": max(setting.batch // processes, 1),
                    "steps": setting.steps,
                    "processes": processes,
                }
                answers[processes].append(launch(task, **kind))
    seconds = {processes: [row["seconds"] for row in rows] for processes, rows in answers.items()}
    return [
        {
            "processes": processes,
            "threads": kind["threads"],
            "batch": setting.batch,
            "precision": setting.precision,
            "seconds": spread(seconds[processes])["median"],
            "images_per_second": setting.steps * setting.batch / spread(seconds[processes])["median"],
            "ratio": pair_ratios(seconds[processes], seconds[1]),
            "peak_mib": spread([row["peak_mib"] for row in answers[processes]])["median"],
        }
        for processes, kind in kinds.items()
    ]
