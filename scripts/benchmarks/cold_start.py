"""Time from the start of the process `distill train` to the end of its first training step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .pairs import pair_ratios, spread
from .recipes import random_teacher
from .setting import Row, Setting

ROOT = Path(__file__).parents[2]
CONFIG = "configs/demo/kd_grad_cam_pp.yaml"
#: The command; it prints the times and exits after one step. It would import torch and Lightning in any case.
COMMAND = """
import time; at = {"interpreter": time.time()}
import torch; at["torch"] = time.time()
import pytorch_lightning; at["lightning"] = time.time()
import json, os
from distill.cli import main
from distill.training import DistillationModule
def leave(*_):
    at["step"] = time.time()
    print(json.dumps(at), flush=True)
    os._exit(0)
DistillationModule.on_train_batch_end = leave
main()
"""


def measure_start(setting: Setting) -> list[Row]:
    """Start the shipped configuration with a teacher and the term, once per round."""
    parts: dict[str, list[float]] = {"torch": [], "lightning": [], "step": []}
    with tempfile.TemporaryDirectory() as root:
        random_teacher(Path(root), setting.teacher)
        for number in range(setting.rounds_or(3)):
            began, at = time.time(), _start(setting, Path(root), f"start-{number}")
            parts["torch"].append(at["torch"] - at["interpreter"])
            parts["lightning"].append(at["lightning"] - at["torch"])
            parts["step"].append(at["step"] - began)
    imports = [a + b for a, b in zip(parts["torch"], parts["lightning"], strict=True)]
    named = {
        "distill train, to the end of the first step": parts["step"],
        "of it, import torch": parts["torch"],
        "of it, import pytorch_lightning": parts["lightning"],
        "of it, all else": [whole - part for whole, part in zip(parts["step"], imports, strict=True)],
    }
    return [
        {"what": what, "seconds": spread(values), "share": pair_ratios(values, parts["step"])["median"]}
        for what, values in named.items()
    ]


def _start(setting: Setting, folder: Path, name: str) -> dict[str, float]:
    scenes = setting.scenes
    counts = [f"data.count={{train: {scenes}, validation: {max(scenes // 8, 1)}}}"] if scenes else []
    command = [sys.executable, "-c", COMMAND, "train", CONFIG, f"name={name}", f"output_dir={folder}", *counts]
    command += [f"teacher.checkpoint={folder / 'teacher'}", f"student.name={setting.student}"]
    done = subprocess.run(
        [*command, "trainer.accelerator=cpu"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": str(setting.threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout:
        raise RuntimeError(f"distill train did not reach its first step: {done.stderr[-2000:]}")
    at: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return at
