"""What must be measured in a process of its own: peaks of memory, and several processes together."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from distill.build import build

from .clock import timed_fit
from .recipes import configure
from .setting import Row
from .steps import make_step
from .whole_epochs import one_epoch

SCRIPT = Path(__file__).parents[1] / "bench.py"
#: The momentum is there from the second step on: more steps do not raise the peak.
STEPS = 3
LIBRARIES = ("torch", "torchvision", "torchmetrics", "pytorch_lightning")


def ask(task: dict[str, Any], *, threads: int) -> Row:
    """Have a task done by a process of its own, forked from one that has only imported the libraries."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LIBRARIES))
    with ProcessPoolExecutor(1, mp_context=context, initializer=set_threads, initargs=(threads,)) as pool:
        return pool.submit(serve, task).result()


def launch(task: dict[str, Any], *, threads: int) -> Row:
    """Have a task done by a command of its own, which Lightning can start again for the other processes.

    Raises:
        RuntimeError: if it failed, with the end of what it wrote.
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
    """Do a task in this process."""
    what = task.pop("what")
    if what == "step":
        return step_peak(**task)
    if what == "epoch":
        return epoch_peak(**task)
    if what == "parallel":
        return parallel_epochs(**task)
    raise ValueError(f"no measurement {what!r}.")


def step_peak(**step: Any) -> Row:
    """Give the peak after some optimiser steps."""
    run = make_step(**step)
    before = own_memory("VmRSS")
    for _ in range(STEPS):
        run()
    return {"peak_mib": own_memory("VmHWM"), "before_mib": before}


def epoch_peak(*, folder: str, **run: Any) -> Row:
    """Give the peak of a whole run of one short epoch, and the share of views that its cache knew."""
    built = build(configure(Path(folder), steps=STEPS, **run))
    before = own_memory("VmRSS")
    _, hits = one_epoch(built)
    return {"peak_mib": own_memory("VmHWM"), "before_mib": before, "hits": hits}


def parallel_epochs(*, folder: str, steps: int, **run: Any) -> Row:
    """Fit two epochs, the first to warm up; Lightning starts the other processes with this one's command.

    Raises:
        RuntimeError: if the processes did not share the epoch out.
    """
    built = build(configure(Path(folder), epochs=2, steps=steps, **run))
    epoch = timed_fit(built)[-1]
    if len(epoch.batches) != steps:
        raise RuntimeError(f"a process made {len(epoch.batches)} steps, and its share is {steps}.")
    return {"seconds": epoch.training, "step_seconds": epoch.step, "peak_mib": own_memory("VmHWM")}


def own_memory(field: str) -> float:
    """Read this process's memory in MiB: ``VmRSS`` now, ``VmHWM`` at its highest; the highest where no /proc is."""
    status = Path("/proc/self/status")
    if status.exists():  # the peak that getrusage tells is inherited from the parent there
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def is_first() -> bool:
    """Tell whether this process is the one that answers."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def set_threads(threads: int) -> None:
    """Give torch so many threads."""
    torch.set_num_threads(threads)
