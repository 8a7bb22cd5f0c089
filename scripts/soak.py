"""Repeat train, cache, evaluate and ablate in one process, and fail if memory, open files or threads keep growing."""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from rich.console import Console

import distill
from distill.evaluation import EvaluationSettings
from distill.workflows.cache import fill_cache
from distill.workflows.train import make_config

#: Rounds before the measurement: libraries are imported, and pools and caches filled, in the first rounds.
WARM_UP = 3
#: Rounds that a slope needs.
ENOUGH = 4
#: Growth per round that is accepted. Memory: a run
#: that stayed in memory with its network and images adds 1 to 4 MiB. Open files and threads: less than one
#: that stays open in ten rounds.
BOUNDS = {"memory": 512.0, "files": 0.1, "threads": 0.1}
UNITS = {"memory": "KiB", "files": "open files", "threads": "threads"}

RUN: dict[str, Any] = {
    "data": {
        "name": "fashion_scenes",
        "size": 16,
        "count": {"train": 32, "validation": 16, "test": 16},
        "batch_size": 16,
        "eval_batch_size": 16,
    },
    "student": {"name": "wrn_10_1"},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "precision": "32-true", "enable_progress_bar": False},
    "loggers": {"tensorboard": False},
}
OBJECTIVE = {"soft_targets": 1.0, "explanation": {"weight": 1.0}}
ABLATION = """
name: ablation
base: run.yaml
rows: {{CE: {{}}}}
seeds: 1
metrics: [unbiased/accuracy]
baseline: CE
test_sets: {{unbiased: {{background: unbiased}}}}
executor: {{processes: 1, threads: 1}}
output_dir: {folder}
"""


class Sample(NamedTuple):
    """What this process and its children hold after a round: KiB of memory, open files, threads."""

    memory: float
    files: float
    threads: float


def measure() -> Sample:
    """Return the memory of this process, and the open files and threads of this process and its children."""
    gc.collect()
    process = psutil.Process()
    family = [process, *process.children(recursive=True)]
    return Sample(
        memory=process.memory_info().rss / 1024,
        files=float(sum(one.num_fds() for one in family)),
        threads=float(sum(one.num_threads() for one in family)),
    )


def slope(values: Sequence[float]) -> float:
    """Return the growth per round: the median of the slopes between all pairs of rounds (Theil and Sen).

    A single jump, such as a buffer that is allocated once, does not change it.

    Example:
        >>> slope([1.0, 3.0, 5.0, 100.0])
        2.0
    """
    pairs = sorted((b - a) / (j - i) for i, a in enumerate(values) for j, b in enumerate(values) if j > i)
    middle = len(pairs) // 2
    return pairs[middle] if len(pairs) % 2 else (pairs[middle - 1] + pairs[middle]) / 2


def growth(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the growth per round of each quantity."""
    return {name: slope([getattr(sample, name) for sample in samples]) for name in BOUNDS}


def too_much(samples: Sequence[Sample]) -> list[str]:
    """Return one line for each quantity that grows by more than its bound."""
    return [
        f"{name} grows by {value:.2f} {UNITS[name]} per round, accepted are {BOUNDS[name]:g}"
        for name, value in growth(samples).items()
        if value > BOUNDS[name]
    ]


def one_round(folder: Path) -> None:
    """Train a teacher and a student with a cache, fill a cache, evaluate, and run an ablation of one run."""
    kept: dict[str, Any] = {"output_dir": str(folder), **RUN}
    teacher = distill.train(name="teacher", **kept)
    cached = {"checkpoint": str(teacher.directory), "cache": "disk"}
    run = distill.train(name="student", teacher=cached, objective=OBJECTIVE, **kept)
    fill_cache(make_config([kept], {"teacher": cached, "objective": {"soft_targets": {}}, "seed": 1}, []))
    quick = EvaluationSettings(held_out=("input_x_gradient",), perturbed=4, explained=4, sanity=0)
    distill.evaluate(run.directory, reference=teacher.directory, settings=quick, gallery=2, device="cpu")
    distill.ablate(folder / "ablation.yaml", console=Console(quiet=True))


def soak(
    minutes: float, work: Callable[[Path], None] = one_round, *, show: Callable[[str], None] = print
) -> list[Sample]:
    """Repeat rounds for some minutes, at least until there are enough for a slope, and return a sample of each."""
    samples: list[Sample] = []
    end = time.monotonic() + 60 * minutes
    show(f"{'round':>5} {'seconds':>8} {'MiB':>8} {'files':>6} {'threads':>8}")
    while time.monotonic() < end or len(samples) < WARM_UP + ENOUGH:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root)
            _write_files(folder)
            work(folder)
        samples.append(measure())
        memory, files, threads = samples[-1]
        seconds = time.monotonic() - start
        show(f"{len(samples):>5} {seconds:>8.1f} {memory / 1024:>8.1f} {files:>6.0f} {threads:>8.0f}")
    return samples


def _write_files(folder: Path) -> None:
    from omegaconf import OmegaConf

    OmegaConf.save(OmegaConf.create(RUN), folder / "run.yaml")
    (folder / "ablation.yaml").write_text(ABLATION.format(folder=folder))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak, and return 1 if something grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (default: 30)")
    minutes = parser.parse_args(arguments).minutes
    steady = soak(minutes)[WARM_UP:]
    print(f"\nafter {WARM_UP} rounds of warm-up, per round over {len(steady)} rounds:")
    for name, value in growth(steady).items():
        print(f"{name:>8} {value:>+9.3f} {UNITS[name]} (accepted: {BOUNDS[name]:g})")
    problems = too_much(steady)
    print("\n".join(problems) or "nothing grows")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
