"""A run directory: what is in it, and whether a run may begin, go on, or is done."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
from omegaconf import OmegaConf

from distill.config import Config
from distill.errors import InputError
from distill.models.weights import WEIGHTS_NAME

State = Literal["new", "resume", "done"]
_PACKAGES = ("distill-explain", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "numpy")


@dataclass(frozen=True)
class RunDirectory:
    """The files of one run.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def last(self) -> Path:
        """State of the latest save."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """State of the best epoch by what is monitored."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def metrics(self) -> Path:
        """What was measured while training."""
        return self.path / "metrics.csv"

    @property
    def environment(self) -> Path:
        """Versions, commit, device, seeds."""
        return self.path / "environment.json"

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    def state(self, identity: str, *, overwrite: bool = False) -> State:
        """Say what a run of this identity would do here, touching nothing.

        Raises:
            InputError: if another run, or something that is no run, lies there.
        """
        if self.environment.exists() and not overwrite:
            if json.loads(self.environment.read_text())["identity"] != identity:
                raise InputError(
                    f"{self.path} holds a run of another configuration (its config.yaml says which); give this one "
                    "another `name=`, or replace the old one with --overwrite."
                )
            if (self.path / WEIGHTS_NAME).exists():
                return "done"
            return "resume" if self.last.exists() else "new"
        if self.path.exists() and not self.environment.exists() and any(self.path.iterdir()):
            raise InputError(f"{self.path} is not empty and holds no run; choose another `name=` or `output_dir=`.")
        return "new"

    def open(self, config: Config, identity: str, *, overwrite: bool = False) -> State:
        """Make the directory ready for a run, or find the same run in it.

        Raises:
            InputError: as :meth:`state` does.
        """
        state = self.state(identity, overwrite=overwrite)
        if state == "new":
            if self.environment.exists():
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
            self.config.write_text(OmegaConf.to_yaml(config.model_dump(mode="json")))
            self.environment.write_text(json.dumps(describe_environment(config, identity), indent=2) + "\n")
        return state


def describe_environment(config: Config, identity: str) -> dict[str, Any]:
    """Collect what a figure must be quoted with."""
    return {
        "identity": identity,
        "seed": config.seed,
        "data_seed": config.data.seed,
        "command": " ".join(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "commit": _commit(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


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
    """Name the commit of the code that runs, if it runs from a checkout."""
    folder = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "."],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + (" with changes" if changed else "")
