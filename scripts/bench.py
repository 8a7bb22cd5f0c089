"""Benchmark of training (steps, epochs, data path, memory, scaling, two processes, start-up) and of an evaluation.

    python scripts/bench.py [--quick] [--only steps,epochs,...] [--json FILE] [--markdown docs/performance.md]

The variants of a comparison are measured in turn, after a warm-up. A ratio divides two measurements of the same round;
the median over the rounds is shown with the quartiles. Each section prints a table and is written to one JSON file,
where it replaces the same section of an earlier run. All sections take about half an hour on two idle cores.

    start       time from the command to the end of the first step
    steps       optimiser steps on a batch in memory, float32 and bf16
    epochs      whole epochs of real runs, with and without teacher, term and cache
    loader      the data path compared with PIL, and its share of a step
    folders     a folder of photographs at 224 pixels compared with torchvision's ImageFolder
    memory      peak memory, each in a separate process
    growth      cost of the term by batch, image size, classes and width
    ddp         one process compared with two
    evaluation  maps and metrics of 10,000 images compared with the forward passes
    networks    the term and the maps at final of networks of torchvision and timm; pytorch-grad-cam beside them
    allocator   time, page faults and peak memory with and without the allocator setting
    profile     the operators of one step (also --profile, alone)
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmarks import worker
from benchmarks.allocator import measure_allocator
from benchmarks.cold_start import measure_start
from benchmarks.data_path import measure_loader
from benchmarks.evaluation import measure_evaluation
from benchmarks.figures import key_figures, worst_term
from benchmarks.folders import measure_folders
from benchmarks.growth import measure_growth
from benchmarks.memory import measure_memory
from benchmarks.networks import measure_networks
from benchmarks.operators import measure_profile
from benchmarks.page import fill_page
from benchmarks.parallel import measure_ddp
from benchmarks.setting import LIGHTNING_PRECISION, Row, Setting, computed_precisions
from benchmarks.steps import measure_steps
from benchmarks.tables import rich_table
from benchmarks.whole_epochs import measure_epochs
from rich.console import Console

from distill.malloc import keep_freed_memory
from distill.training.environment import describe_machine

SECTIONS: dict[str, Callable[[Setting], list[Row]]] = {
    "start": measure_start,
    "steps": measure_steps,
    "epochs": measure_epochs,
    "loader": measure_loader,
    "folders": measure_folders,
    "memory": measure_memory,
    "growth": measure_growth,
    "ddp": measure_ddp,
    "evaluation": measure_evaluation,
    "networks": measure_networks,
    "allocator": measure_allocator,
    "profile": measure_profile,
}
QUICK = ("steps", "epochs")


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the term at final and one epoch, in under a minute")
    parser.add_argument("--only", metavar="NAMES", help=f"sections, separated by commas: {','.join(SECTIONS)}")
    parser.add_argument("--profile", action="store_true", help="only the section profile")
    parser.add_argument("--no-run", action="store_true", help="measure nothing; show and render the figures in --json")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures, with versions and processor")
    parser.add_argument("--markdown", type=Path, metavar="PAGE", help="write the tables between the markers of a page")
    parser.add_argument("--rounds", type=int, help="rounds of every section (default: a number for each)")
    parser.add_argument("--batch", type=int, nargs="+", help="batch sizes; most sections use the last (default 64 128)")
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=list(LIGHTNING_PRECISION),
        help="likewise (default: what the processor computes fast)",
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, help="steps per epoch (default 20)")
    parser.add_argument("--teacher", default=Setting.teacher)
    parser.add_argument("--student", default=Setting.student)
    parser.add_argument("--scenes", type=int, help="training images of the section start (default: the demo's)")
    parser.add_argument("--bound", type=float, help="exit with 1 if the ratio of the term at final is above this")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    arguments.sections = _sections(arguments)
    for name in arguments.sections:
        if name not in SECTIONS:
            parser.error(f"--only: unknown section {name!r}; choose from {', '.join(SECTIONS)}")
    if arguments.no_run and not (arguments.json and arguments.json.exists()):
        parser.error("--no-run needs --json with a file that exists")
    if arguments.markdown:
        try:
            fill_page(arguments.markdown.read_text(), {"sections": {}})
        except (OSError, ValueError) as error:
            parser.error(f"--markdown: {error}")
    if min(arguments.rounds or 1, arguments.steps or 1, arguments.threads, *(arguments.batch or [1])) < 1:
        parser.error("--rounds, --steps, --threads and --batch must be 1 or more")
    if arguments.bound is not None and "steps" not in arguments.sections:
        parser.error("--bound needs the section steps, which is not measured")
    return arguments


def _sections(arguments: argparse.Namespace) -> list[str]:
    if arguments.no_run:
        return []
    if arguments.only:
        return [name.strip() for name in arguments.only.split(",")]
    if arguments.profile:
        return ["profile"]
    return list(QUICK if arguments.quick else SECTIONS)


def setting_of(arguments: argparse.Namespace) -> Setting:
    """Convert the command line to a setting."""
    quick = arguments.quick
    return Setting(
        teacher=arguments.teacher,
        student=arguments.student,
        precisions=tuple(arguments.precision or computed_precisions()),
        batches=tuple(arguments.batch or ((64,) if quick else Setting.batches)),
        threads=arguments.threads,
        rounds=arguments.rounds,
        steps=arguments.steps or (8 if quick else Setting.steps),
        scenes=arguments.scenes,
        quick=quick,
    )


def measure(name: str, setting: Setting) -> dict[str, Any]:
    """Measure a section; return its rows with the command, networks and machine."""
    if setting.quick and name == "epochs" and setting.rounds is None:
        setting = replace(setting, rounds=2)
    load, start = os.getloadavg()[0], time.perf_counter()
    rows = SECTIONS[name](setting)
    return {
        "rows": rows,
        "seconds": time.perf_counter() - start,
        "load": load,
        "command": shlex.join(["python", "scripts/bench.py", *sys.argv[1:]]),
        "teacher": setting.teacher,
        "student": setting.student,
        "machine": describe_machine(),
    }


def main(given: Sequence[str] | None = None) -> int:
    """Measure, print and write; return 1 if the ratio of the term at `final` is above ``--bound``."""
    arguments = parse(given)
    worker.set_threads(arguments.threads)
    warnings.filterwarnings("ignore", message=".*self.trainer.* reference is not registered.*")
    if arguments.worker:
        answer = worker.serve(json.loads(arguments.worker))
        if worker.is_first():
            print(json.dumps(answer))
        return 0
    keep_freed_memory()  # as all commands do
    setting, console = setting_of(arguments), Console(width=200)
    file: Path | None = arguments.json
    sections = json.loads(file.read_text()).get("sections", {}) if file and file.exists() else {}
    for name in arguments.sections:
        sections[name] = measure(name, setting)
        console.print(rich_table(name, sections[name]["rows"]))
        if file:
            file.write_text(json.dumps({"machine": describe_machine(), "sections": sections}, indent=2) + "\n")
    figures = key_figures({name: section["rows"] for name, section in sections.items()})
    console.print(rich_table("figures", figures))
    if arguments.markdown:
        page: Path = arguments.markdown
        page.write_text(fill_page(page.read_text(), {"sections": sections}))
    if arguments.bound is None:
        return 0
    worst = worst_term(sections["steps"]["rows"])
    if worst > arguments.bound:
        print(
            f"a step with the term at final takes {worst:.3f} of one without it, above the bound {arguments.bound}",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
