"""The environment that a result was computed in: package versions, commit, processor, device."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("distill-explain", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "numpy")


def describe_machine() -> dict[str, Any]:
    """Return the package versions, the commit of the running code, and the hardware."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "commit": _commit(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def is_first_process() -> bool:
    """Return whether this is the process that writes the files of a run: the only one, or the one of rank 0.

    Lightning, torchrun and SLURM start the processes of one run with their ranks in environment variables.
    """
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") in ("0", "") for name in names)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _commit() -> str | None:
    """Return the commit of the running code, or None outside of a Git checkout."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + (" with changes" if _git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    process = subprocess.run(
        ["git", *arguments], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True, timeout=10
    )
    return process.stdout.strip()
