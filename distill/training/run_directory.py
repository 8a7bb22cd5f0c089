"""A run directory: what is in it, and whether a run may begin, go on, or is done."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf

from distill.config import Config
from distill.errors import InputError
from distill.models.weights import WEIGHTS_NAME
from distill.training.environment import describe_machine

State = Literal["new", "resume", "done"]


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
    def _unnamed(self) -> Path:
        return self.environment.with_name(self.environment.name + ".part")

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    def state(self, identity: str, *, overwrite: bool = False) -> State:
        """Say what a run of this identity would do here, touching nothing.

        Raises:
            InputError: if another run, or something that is no run, lies there.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file; choose another `name=` or `output_dir=`.")
        if self.environment.exists() and not overwrite:
            if self._identity() != identity:
                raise InputError(
                    f"{self.path} holds a run of another configuration (its config.yaml says which); give this one "
                    "another `name=`, or replace the old one with --overwrite."
                )
            if (self.path / WEIGHTS_NAME).exists():
                return "done"
            return "resume" if self.last.exists() else "new"
        strange = self.path.exists() and not self.environment.exists()
        if strange and any(entry != self._unnamed for entry in self.path.iterdir()):
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
                # What says whose directory this is goes last: cut off in between, the same call may begin again.
                for entry in self.path.iterdir():
                    if entry != self.environment:
                        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            self.path.mkdir(parents=True, exist_ok=True)
            self._unnamed.write_text(json.dumps(self._facts(config, identity), indent=2) + "\n")
            self._unnamed.replace(self.environment)  # and comes first
            self.config.write_text(OmegaConf.to_yaml(config.model_dump(mode="json")))
        return state

    def _identity(self) -> str:
        try:
            return str(json.loads(self.environment.read_text())["identity"])
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{self.environment} cannot be read, so nobody knows which run this is; replace it with --overwrite."
            ) from error

    def _facts(self, config: Config, identity: str) -> dict[str, Any]:
        seeds = {"seed": config.seed, "data_seed": config.data.seed}
        return {"identity": identity, **seeds, "command": " ".join(sys.argv), **describe_machine()}
