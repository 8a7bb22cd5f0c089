"""`RunDirectory`: the files of a run, and whether the run is new, can be resumed, or is done."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from distill.checksums import hash_file, hash_values, read_checked, save_checked
from distill.config import Config, parse_yaml, to_yaml
from distill.config.reading import read_recorded
from distill.errors import InputError, StorageError
from distill.files import HOLDER_NAME, LOCK_NAME, describe_storage_error, storage_errors, write_text
from distill.models.weights import WEIGHTS_NAME
from distill.report.common.curves import METRICS_HASH
from distill.training.environment import describe_machine
from distill.untrusted import read_text

#: In ``environment.json``: checksum of the values of ``config.yaml``.
CONFIG_HASH = "config"
#: In ``environment.json``: path and checksum of the weights from which training started.
STARTING_WEIGHTS = "starting_weights"
State = Literal["new", "resume", "done"]


@dataclass(frozen=True)
class RunDirectory:
    """The files of a run.

    Args:
        path: The folder of the run.
    """

    path: Path

    @property
    def last(self) -> Path:
        """The last checkpoint."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def previous(self) -> Path:
        """The checkpoint before the last one; it exists until the run is finished."""
        return self.path / "checkpoints" / "previous.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch by the monitored metric."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def failed_step(self) -> Path:
        """State and batch of the step in which the run stopped being finite; it exists if that happened."""
        return self.path / "failed_step.ckpt"

    @property
    def checkpoints(self) -> tuple[Path, ...]:
        """The checkpoints, in the order in which a run resumes from them."""
        return self.last, self.previous, self.best

    @property
    def weights(self) -> Path:
        """The weights of the student; they exist if the run is finished."""
        return self.path / WEIGHTS_NAME

    @property
    def metrics(self) -> Path:
        """The metrics that were logged in training."""
        return self.path / "metrics.csv"

    @property
    def environment(self) -> Path:
        """Identity of the run, package versions, commit, device and seeds."""
        return self.path / "environment.json"

    @property
    def _environment_part(self) -> Path:
        """Temporary file that becomes ``environment.json`` once it is complete."""
        return self.environment.with_name(self.environment.name + ".part")

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    def state(self, identity: str, *, overwrite: bool = False) -> State:
        """Return whether a run would start, resume, or is done; changes no file.

        Args:
            identity: Hash of what the run computes.
            overwrite: Whether a run with another identity may be replaced.

        Raises:
            InputError: if the path is a file, or the folder contains a run with another identity that has saved a
                checkpoint and ``overwrite`` is False, or the folder contains files but no run.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file, not a folder. Choose another `name=` or `output_dir=`.")
        if self.environment.exists() and not overwrite and not self._is_unused():
            if self.identity() != identity:
                raise InputError(
                    f"{self.path} contains a run with another configuration (see its config.yaml). Choose another "
                    "`name=`, or replace that run with --overwrite."
                )
            if self.weights.exists():
                return "done"
            return "resume" if self.last.exists() or self.previous.exists() else "new"
        no_run = self.path.exists() and not self.environment.exists()
        if no_run and any(entry != self._environment_part for entry in self._entries()):
            raise InputError(
                f"{self.path} is not empty and does not contain a run. Choose another `name=` or `output_dir=`."
            )
        return "new"

    def open(
        self, config: Config, identity: str, *, overwrite: bool = False, also: Mapping[str, Any] | None = None
    ) -> State:
        """Prepare the directory for a new run; a run that can be resumed or is done is left unchanged.

        The configuration of an extended run is written again, in case it was interrupted while it was extended.

        Args:
            config: The configuration, which is written to ``config.yaml``.
            identity: Hash of what the run computes.
            overwrite: Whether a run with another identity may be deleted.
            also: Further values for ``environment.json``, such as the number of skipped images.

        Returns:
            The state before the call, as :meth:`state` returns it.

        Raises:
            InputError: as :meth:`state` does.
        """
        state = self.state(identity, overwrite=overwrite)
        if state == "new":
            if self.environment.exists():
                # environment.json identifies the run and is deleted last: if interrupted, the same call works again.
                with storage_errors(self.path):
                    for entry in self._entries():
                        if entry != self.environment:
                            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            text = to_yaml(config)
            record = {**self._environment_record(config, identity, text), **(also or {})}
            save_checked(record, self.environment)  # first, for that reason
            write_text(self.config, text)
        elif state == "resume" and self.extended and self.config.read_text() != to_yaml(config):
            write_text(self.config, to_yaml(config))
        return state

    @property
    def has_started(self) -> bool:
        """Whether the run has something to lose: a checkpoint or the weights of the student."""
        return self.weights.exists() or any(path.exists() for path in self.checkpoints)

    def _is_unused(self) -> bool:
        """Return whether a run was opened here but failed before its first checkpoint, and nothing else is there."""
        known = {self.environment.name, self.config.name, self.metrics.name, self.last.parent.name, "tensorboard"}
        known.add(self.failed_step.name)
        return not self.has_started and all(entry.name.removesuffix(".part") in known for entry in self._entries())

    def check_exists(self) -> None:
        """Check that the folder was not removed while the run was going on; a new one would hold a part of the run.

        Raises:
            StorageError: if it was removed.
        """
        if not self.path.is_dir():
            raise StorageError(describe_storage_error(FileNotFoundError(errno.ENOENT, "removed"), self.path))

    def _entries(self) -> list[Path]:
        """Return the files and folders of the run, without those of the lock."""
        return [entry for entry in self.path.iterdir() if entry.name not in (LOCK_NAME, HOLDER_NAME)]

    def extend(self, config: Config, identity: str, *, epochs: int) -> None:
        """Turn a run into the same run with more epochs, which is not finished.

        Each file is replaced atomically. The identity is written before the configuration: if interrupted, the same
        command resumes, and :meth:`open` completes the configuration.

        Args:
            config: The configuration with more epochs.
            identity: Its hash.
            epochs: The number of epochs before.
        """
        with storage_errors(self.weights):
            self.weights.unlink(missing_ok=True)
        text = to_yaml(config)
        changed = {"identity": identity, "extended_from": epochs, CONFIG_HASH: hash_values(parse_yaml(text))}
        save_checked(self.read_environment() | changed, self.environment)
        write_text(self.config, text)

    @property
    def extended(self) -> bool:
        """Whether the run was extended to more epochs."""
        return self.environment.exists() and "extended_from" in self.read_environment()

    def identity(self) -> str:
        """Return the recorded hash of what the run computes.

        Raises:
            InputError: if it cannot be read.
        """
        record = self.read_environment(remedy="The run in this folder is unknown; replace it with --overwrite.")
        return str(record["identity"])

    def read_environment(self, *, remedy: str = "Train the run again with --overwrite.") -> dict[str, Any]:
        """Read ``environment.json``.

        Args:
            remedy: What to do if the file is damaged, for the message.

        Raises:
            InputError: if the file is damaged.
        """
        try:
            record = read_checked(self.environment, remedy=remedy)
        except InputError as error:
            raise InputError(f"{self.environment} cannot be read. {error}") from error
        for key, kind in (("identity", str), ("packages", dict), (CONFIG_HASH, str), (METRICS_HASH, str)):
            if not isinstance(record.get(key, kind()), kind) or "identity" not in record:
                raise InputError(f"{self.environment} cannot be read: {key} is missing or of a wrong kind. {remedy}")
        return record

    def check_config(self) -> None:
        """Raise an error if ``config.yaml`` is no longer the configuration that the run was trained with.

        Runs of older versions have no checksum of their configuration; they are not checked.

        Raises:
            InputError: if the file was changed, or ``environment.json`` is damaged.
        """
        if not self.environment.exists():
            return
        expected = self.read_environment().get(CONFIG_HASH)
        if expected is not None and expected != hash_values(read_recorded(self.config)):
            raise InputError(
                f"{self.config} was changed after the run was started, so it no longer describes the weights. Restore "
                "the file, or train a run with the new configuration under another `name=`."
            )

    def facts(self) -> dict[str, object]:
        """Return the environment and the configuration of the run, for the footer of a report.

        Raises:
            InputError: if a file is damaged.
        """
        self.check_config()
        environment = self.read_environment() if self.environment.exists() else {}
        packages = environment.pop("packages", {})
        for name in (CONFIG_HASH, METRICS_HASH):
            environment.pop(name, None)
        return {**environment, **packages, "configuration": read_text(self.config)}

    def store_metrics_hash(self, *, data_wait: float | None = None) -> None:
        """Store the checksum of the finished ``metrics.csv`` in ``environment.json``.

        Args:
            data_wait: Share of the training time in which the run waited for data, which is stored as well.
        """
        wait = {} if data_wait is None else {"data_wait": round(data_wait, 4)}
        save_checked({**self.read_environment(), METRICS_HASH: hash_file(self.metrics), **wait}, self.environment)

    def drop_metrics_hash(self) -> None:
        """Remove the checksum of ``metrics.csv``, because training will write to it."""
        record = self.read_environment()
        if record.pop(METRICS_HASH, None) is not None:
            save_checked(record, self.environment)

    def _environment_record(self, config: Config, identity: str, text: str) -> dict[str, Any]:
        seeds = {"seed": config.seed, "data_seed": config.data.seed}
        about = {"identity": identity, CONFIG_HASH: hash_values(parse_yaml(text)), **seeds}
        return {**about, "command": " ".join(sys.argv), **describe_machine()}
