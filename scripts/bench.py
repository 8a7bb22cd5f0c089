"""What the explanation term costs: step time and peak memory against the same step without it.

    python scripts/bench.py [--quick] [--json FILE]

Steps of all variants alternate, after a warm-up; a ratio is the median over rounds of a variant's step to the
reference's step in the same round, with the quartiles beside it. Peak memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from distill.build import build_module
from distill.config import load
from distill.models import create_model
from distill.training import FrozenTeacher
from distill.training.environment import describe_machine
from distill.training.precision import resolve_precision
from distill.types import Batch

KD = ["objective.soft_targets.weight=0.9", "teacher.checkpoint=unused"]
TERM = [*KD, "objective.explanation.weight=5"]
VARIANTS = {
    "CE": [],
    "CE+KD": KD,
    "CE+KD+Grad-CAM++ final": [*TERM],
    "CE+KD+Grad-CAM++ final, autograd": [*TERM, "objective.explanation.gradients=autograd"],
    "CE+KD+Grad-CAM++ group2": [*TERM, "objective.explanation.layer=group2"],
    "CE+KD+Grad-CAM++ group1": [*TERM, "objective.explanation.layer=group1"],
}
REFERENCE = "CE+KD"
TERM_AT_FINAL = "CE+KD+Grad-CAM++ final"


def make_step(variant: str, *, bf16: bool, batch: int, teacher: str, student: str) -> Callable[[], None]:
    """Build the optimiser step of a variant on a batch that lies ready."""
    torch.manual_seed(0)
    config = load([], VARIANTS[variant])
    networks = [create_model(n, num_classes=10).to(memory_format=torch.channels_last) for n in (student, teacher)]
    frozen = FrozenTeacher(networks[1]) if config.teacher else None
    module = build_module(config, networks[0], frozen)
    optimizer, _ = module.optimisation.make(module, steps_per_epoch=100, total_steps=100)
    images = torch.rand(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    numbers = torch.arange(batch)
    data = Batch(images, torch.randint(10, (batch,)), numbers, numbers)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else nullcontext():
            loss = module.training_step(data)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def time_steps(steps: dict[str, Callable[[], None]], rounds: int, warm_up: int) -> dict[str, list[float]]:
    """Time one step of every variant in turn, round after round."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(warm_up + rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if i >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def peak_memory(arguments: argparse.Namespace, variant: str, *, bf16: bool) -> float:
    """Measure the peak of a process that makes four steps, in MiB."""
    command = [sys.executable, __file__, "--peak", variant, "--batch", str(arguments.batch)]
    command += ["--threads", str(arguments.threads), *(["--bf16"] if bf16 else [])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def own_peak() -> float:
    """Read this process's peak, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # the peak that getrusage tells is inherited from the parent there
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every variant in every precision that this machine computes in."""
    names = ["CE+KD", TERM_AT_FINAL] if arguments.quick else list(VARIANTS)
    sizes = {"batch": arguments.batch, "teacher": "wrn_40_2", "student": "wrn_16_2"}
    rows = []
    for bf16 in [False, True] if resolve_precision("auto", "cpu") == "bf16-mixed" else [False]:
        steps = {name: make_step(name, bf16=bf16, **sizes) for name in names}
        seconds = time_steps(steps, arguments.rounds, warm_up=2)
        peaks = {} if arguments.quick else {name: peak_memory(arguments, name, bf16=bf16) for name in names}
        for name in names:
            ratios = [a / b for a, b in zip(seconds[name], seconds[REFERENCE], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            rows.append(
                {
                    "precision": "bf16" if bf16 else "float32",
                    "variant": name,
                    "seconds": statistics.median(seconds[name]),
                    "images_per_second": arguments.batch / statistics.median(seconds[name]),
                    "ratio": middle,
                    "ratio_quartiles": [low, high],
                    "peak_mib": peaks.get(name),
                    "peak_ratio": peaks[name] / peaks[REFERENCE] if peaks else None,
                }
            )
    return rows


def show(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Print the table."""
    table = Table(title=f"WRN-40-2 to WRN-16-2, 3 x 32 x 32, batch {arguments.batch}, {arguments.threads} threads")
    for column in (
        "precision",
        "step",
        "seconds",
        "images/s",
        f"ratio to {REFERENCE}",
        "quartiles",
        "peak MiB",
        "ratio",
    ):
        table.add_column(column, justify="left" if column in ("precision", "step") else "right")
    for row in rows:
        low, high = row["ratio_quartiles"]
        peak = ("", "") if row["peak_mib"] is None else (f"{row['peak_mib']:.0f}", f"{row['peak_ratio']:.3f}")
        table.add_row(
            row["precision"],
            row["variant"],
            f"{row['seconds']:.3f}",
            f"{row['images_per_second']:.0f}",
            f"{row['ratio']:.3f}",
            f"{low:.3f}-{high:.3f}",
            *peak,
        )
    Console(width=140).print(table)


def main() -> int:
    """Parse, measure, print; exit 1 if the term at `final` is above the bound that was given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the term at final, fewer rounds, no memory")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures with versions and processor")
    parser.add_argument("--rounds", type=int, help="rounds of alternating steps (default 15, quick 7)")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bound", type=float, help="fail if the ratio of the term at final is above this")
    parser.add_argument("--peak", choices=list(VARIANTS), help=argparse.SUPPRESS)
    parser.add_argument("--bf16", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (7 if arguments.quick else 15)
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore", message=".*self.trainer.* reference is not registered.*")
    if arguments.peak:
        sizes = {"batch": arguments.batch, "teacher": "wrn_40_2", "student": "wrn_16_2"}
        step = make_step(arguments.peak, bf16=arguments.bf16, **sizes)
        for _ in range(4):
            step()
        print(own_peak())
        return 0
    rows = measure(arguments)
    show(rows, arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": describe_machine(), "rows": rows}, indent=2) + "\n")
    worst = max(row["ratio"] for row in rows if row["variant"] == TERM_AT_FINAL)
    if arguments.bound and worst > arguments.bound:
        print(f"the term at final costs {worst:.3f} of the step without it, above {arguments.bound}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
