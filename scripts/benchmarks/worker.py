"""Measurements that need a separate process: peak memory, the allocator, and several processes together."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.build import build
from distill.explain import Explainer
from distill.malloc import keep_freed_memory
from distill.models import create_model

from .clock import timed_fit
from .pairs import seconds_of
from .recipes import configure
from .setting import TERM_AT_FINAL, Row
from .steps import make_step
from .whole_epochs import one_epoch

SCRIPT = Path(__file__).parents[1] / "bench.py"
#: The optimiser's momentum is allocated in the second step; more steps do not raise the peak.
STEPS = 3
#: Images, passes and layer of the allocator's tasks.
IMAGES, SIDE, CLASSES, PASSES, MAP_LAYER = 256, 32, 10, 3, "group2"
LIBRARIES = ("torch", "torchvision", "torchmetrics", "pytorch_lightning")


def ask(task: dict[str, Any], *, threads: int) -> Row:
    """Run a task in a separate process, forked from one that has only imported the libraries."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LIBRARIES))
    with ProcessPoolExecutor(1, mp_context=context, initializer=set_threads, initargs=(threads,)) as pool:
        return pool.submit(serve, task).result()


def launch(task: dict[str, Any], *, threads: int) -> Row:
    """Run a task as a separate command, which Lightning can start again for the other processes.

    Raises:
        RuntimeError: if the command failed; the message has the end of its output.
    """
    command = [sys.executable, str(SCRIPT), "--worker", json.dumps(task), "--threads", str(threads)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
    )
    if done.returncode != 0:
        raise RuntimeError(f"the measurement {task} failed: {done.stderr[-2000:]}")
    answer: Row = json.loads(done.stdout.splitlines()[-1])
    return answer


def serve(task: dict[str, Any]) -> Row:
    """Run a task in this process, with the allocator setting of the commands unless the task has ``keep: False``."""
    what = task.pop("what")
    if task.pop("keep", True):
        keep_freed_memory()
    if what == "step":
        return step_peak(**task)
    if what == "epoch":
        return epoch_peak(**task)
    if what == "parallel":
        return parallel_epochs(**task)
    if what == "allocator":
        return allocator_cost(**task)
    raise ValueError(f"unknown measurement {what!r}.")


def step_peak(**step: Any) -> Row:
    """Return the peak memory after some optimiser steps."""
    run = make_step(**step)
    before = own_memory("VmRSS")
    for _ in range(STEPS):
        run()
    return {"peak_mib": own_memory("VmHWM"), "before_mib": before}


def epoch_peak(*, folder: str, **run: Any) -> Row:
    """Return the peak memory of a whole run of one short epoch, and its share of cache hits."""
    built = build(configure(Path(folder), steps=STEPS, **run))
    before = own_memory("VmRSS")
    _, hits = one_epoch(built)
    return {"peak_mib": own_memory("VmHWM"), "before_mib": before, "hits": hits}


def parallel_epochs(*, folder: str, steps: int, **run: Any) -> Row:
    """Fit two epochs, the first as a warm-up; Lightning starts the other processes with this process's command.

    Raises:
        RuntimeError: if the processes did not share the epoch's steps.
    """
    built = build(configure(Path(folder), epochs=2, steps=steps, **run))
    epoch = timed_fit(built)[-1]
    if len(epoch.batches) != steps:
        raise RuntimeError(f"a process made {len(epoch.batches)} steps, expected its share of {steps}.")
    return {"seconds": epoch.training, "step_seconds": epoch.step, "peak_mib": own_memory("VmHWM")}


def allocator_cost(*, kind: str, batch: int, teacher: str, student: str) -> Row:
    """Return seconds, CPU seconds of the kernel and page faults of a pass (medians after a warm-up), and peak memory.

    Args:
        kind: ``student`` or ``teacher`` (forward pass), ``maps`` (of the student), each over all images in batches;
            ``step``: one training step on one batch.
        batch: Images per batch.
        teacher: Network.
        student: Network.
    """
    if kind == "step":
        images, run = batch, make_step(TERM_AT_FINAL, "float32", batch=batch, teacher=teacher, student=student)
    else:
        images, run = IMAGES, _make_pass(kind, teacher if kind == "teacher" else student, batch)
    run()
    seconds, system, faults = [], [], []
    for _ in range(PASSES):
        before = resource.getrusage(resource.RUSAGE_SELF)
        seconds.append(seconds_of(run))
        after = resource.getrusage(resource.RUSAGE_SELF)
        system.append(after.ru_stime - before.ru_stime)
        faults.append(after.ru_minflt - before.ru_minflt)
    return {
        "images": images,
        "seconds": statistics.median(seconds),
        "system_seconds": statistics.median(system),
        "page_faults": statistics.median(faults),
        "peak_mib": own_memory("VmHWM"),
    }


def _make_pass(kind: str, name: str, batch: int) -> Callable[[], None]:
    torch.manual_seed(0)
    network = create_model(name, num_classes=CLASSES).eval().to(memory_format=torch.channels_last)
    explainer = Explainer("grad_cam_pp", MAP_LAYER)
    pixels = torch.rand(IMAGES, 3, SIDE, SIDE).to(memory_format=torch.channels_last)

    def process(images: Tensor) -> None:
        if kind == "maps":
            explainer(network, images, torch.zeros(len(images), dtype=torch.int64))
        else:
            network(images)

    def run() -> None:
        with torch.no_grad():
            for part in pixels.split(batch):
                process(part)

    return run


def own_memory(field: str) -> float:
    """Return this process's resident memory in MiB: ``VmRSS`` now, ``VmHWM`` the peak; without /proc, the peak."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, getrusage's peak is inherited from the parent
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def is_first() -> bool:
    """Return whether this process is the one that prints the result."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def set_threads(threads: int) -> None:
    """Set the number of torch's threads."""
    torch.set_num_threads(threads)
