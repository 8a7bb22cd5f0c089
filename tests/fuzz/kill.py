"""`scripts/kill`: kill a training run at random moments, resume it, and compare the weights with an undisturbed run."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

PAIRS = (
    *("student.name=wrn_10_1", "data.size=16", "data.batch_size=16", "data.count={train: 64, validation: 32}"),
    *("trainer.max_epochs=30", "trainer.accelerator=cpu", "trainer.precision=32-true", "loggers.tensorboard=false"),
    *("trainer.enable_progress_bar=false", "optimizer.lr=0.05"),
)
#: Most kills of one run before it is left to finish.
KILLS_A_RUN = 6


class Killed(NamedTuple):
    """A run that was killed until it was finished: the moments of the kills, in seconds, and the last exit code."""

    moments: list[float]
    exit_code: int


def start(output: Path, name: str, temporary: Path) -> subprocess.Popen[bytes]:
    """Start `distill train` in a process of its own."""
    command = [sys.executable, "-c", "from distill.cli import main; main()", "train"]
    return subprocess.Popen(
        [*command, *PAIRS, f"output_dir={output}", f"name={name}"],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def weights(output: Path, name: str) -> str | None:
    """Return the hash of the weights of a run, or None if it has none."""
    path = output / name / "student.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def kill_run(output: Path, temporary: Path, *, rng: random.Random, kills: int) -> Killed:
    """Start a run, kill it up to ``kills`` times at random moments, and let it finish.

    Convention:
        - One kill in four is at a random moment of the start, the others after the first new checkpoint, within three
          times the time between two checkpoints. A run that finishes before its moment is not killed.

    Args:
        output: Folder of the run.
        temporary: Folder of temporary files.
        rng: Chooses the moments.
        kills: Largest number of kills.
    """
    moments: list[float] = []
    last = output / "run" / "checkpoints" / "last.ckpt"
    for _ in range(kills):
        begin = time.monotonic()
        process = start(output, "run", temporary)
        if moments and rng.random() < 0.25:
            pause = rng.uniform(0, moments[0])
        else:
            first = _wait_for_change(last, process)
            pause = rng.uniform(0, 3 * (_wait_for_change(last, process) - first))
        with contextlib.suppress(subprocess.TimeoutExpired):
            return Killed(moments, process.wait(pause))
        process.kill()
        process.wait()
        moments.append(round(time.monotonic() - begin, 2))
    return Killed(moments, start(output, "run", temporary).wait())


def _wait_for_change(path: Path, process: subprocess.Popen[bytes]) -> float:
    """Wait until a file was replaced or the process has ended, and return the time."""
    before = _inode(path)
    while _inode(path) == before and process.poll() is None:
        time.sleep(0.002)
    return time.monotonic()


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        return path.stat().st_ino, path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def main() -> int:
    """Kill runs, and print a table; exit 1 if any run was lost or has other weights."""
    parser = argparse.ArgumentParser(prog="scripts/kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=30, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--output", type=Path, action="append", help="folders for runs; default: here and /dev/shm")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    shared_memory = [Path("/dev/shm")] if Path("/dev/shm").is_dir() else []
    parents = arguments.output or [Path(tempfile.gettempdir()), *shared_memory]
    print("| output | kills | after seconds | exit code | weights |\n|---|---:|---|---:|---|", flush=True)
    done = lost = runs = 0
    with tempfile.TemporaryDirectory() as temporary:
        start(Path(temporary), "undisturbed", Path(temporary)).wait()
        expected = weights(Path(temporary), "undisturbed")
        assert expected is not None
        while done < arguments.kills:
            parent = parents[runs % len(parents)]
            with tempfile.TemporaryDirectory(dir=parent) as folder:
                kills = min(arguments.kills - done, KILLS_A_RUN)
                run = kill_run(Path(folder), Path(temporary), rng=rng, kills=kills)
                equal = weights(Path(folder), "run") == expected
            times = ", ".join(map(str, run.moments))
            shown = "equal" if equal else "OTHER"
            print(f"| {parent} | {len(run.moments)} | {times} | {run.exit_code} | {shown} |", flush=True)
            done, lost, runs = done + len(run.moments), lost + (not equal), runs + 1
    print(f"\n{done} kills in {runs} runs, seed {arguments.seed}; runs that were lost or have other weights: {lost}")
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
