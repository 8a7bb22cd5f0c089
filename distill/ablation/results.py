"""Stored results of runs, by hash of the run and of its evaluation, so that no run is repeated."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from distill.checksums import read_checked, save_checked
from distill.errors import InputError
from distill.files import replacing
from distill.metrics.names import check_range
from distill.untrusted import read_text

Figures = dict[str, float | None]


class RunResult(TypedDict):
    """Result of a run, with what it depends on; see :class:`distill.report.ablation.record.TrialResult`."""

    format: Literal[1]
    identity: str
    measured: dict[str, Any]
    config: dict[str, Any]
    figures: Figures
    seconds: float


_ADAPTER = TypeAdapter(RunResult)


def measurement_hash(measured: Mapping[str, Any]) -> str:
    """Return a hash of the evaluation settings: test sets and maps.

    Example:
        >>> one, other = {"maps": {}, "test_sets": {"a": {}}}, {"test_sets": {"a": {}}, "maps": {}}
        >>> measurement_hash(one) == measurement_hash(other)
        True
    """
    return hashlib.sha256(json.dumps(measured, sort_keys=True, default=str).encode()).hexdigest()[:8]


class Results:
    """Folders of stored results.

    Args:
        folders: The first folder is written to; the others are only read.
    """

    def __init__(self, folders: Sequence[Path | str]) -> None:
        self.folders = [Path(folder) for folder in folders]

    def path(self, identity: str, measured: Mapping[str, Any]) -> Path:
        """Return the path of a result in the first folder."""
        return self.folders[0] / self._name(identity, measured)

    def find(self, identity: str, measured: Mapping[str, Any], metrics: Iterable[str]) -> RunResult | None:
        """Return the result of a run that has all these metrics, or None.

        A damaged file gives a warning and counts as missing, so that the run is measured again.
        """
        required = set(metrics)
        for folder in self.folders:
            path = folder / self._name(identity, measured)
            if not path.exists():
                continue
            try:
                result = _read(path, identity, measured)
            except InputError as error:
                warnings.warn(f"{error} The run is measured again.", stacklevel=2)
                continue
            if required <= result["figures"].keys():
                return result
        return None

    def save_run_path(self, identity: str, run: Path) -> None:
        """Store the path of a finished run, so that other metrics can be measured without training again."""
        with replacing(self._run_path_file(identity), suffix=f".{os.getpid()}.part") as part:
            part.write_text(os.path.relpath(run, self.folders[0]) + "\n", encoding="utf-8")

    def find_run(self, identity: str) -> Path | None:
        """Return the stored path of a run, or None; the caller checks that the run is there."""
        note = self._run_path_file(identity)
        if not note.exists():
            return None
        try:
            text = read_text(note, limit=1 << 16).removesuffix("\n")
            if not text or "\0" in text:
                raise InputError(f"{note} holds no path.")
            return Path(os.path.normpath(self.folders[0] / text))
        except InputError as error:
            warnings.warn(f"{error} The run is trained again, unless it is found in its own folder.", stacklevel=2)
            return None

    def _run_path_file(self, identity: str) -> Path:
        return self.folders[0] / ".runs" / identity

    def save(self, result: RunResult) -> Path:
        """Write a result with its checksum, atomically."""
        return save_checked(result, self.path(result["identity"], result["measured"]))

    def save_if_missing(self, result: RunResult) -> None:
        """Write a result, unless the process of the trial has already written it to this disk."""
        path = self.path(result["identity"], result["measured"])
        try:
            _read(path, result["identity"], result["measured"])
        except InputError:  # it does not exist, or is damaged
            self.save(result)

    @staticmethod
    def _name(identity: str, measured: Mapping[str, Any]) -> str:
        return f"{identity}-{measurement_hash(measured)}.json"


def _read(path: Path, identity: str, measured: Mapping[str, Any]) -> RunResult:
    """Read a result, and check it.

    Raises:
        InputError: if it is damaged, or is the result of another run.
    """
    content = read_checked(path, remedy="")
    try:
        result = _ADAPTER.validate_python(content, strict=True)
        for metric, value in result["figures"].items():
            if value is not None:
                check_range(metric, value)
    except (ValidationError, ValueError) as error:
        raise InputError(f"{path} is not a valid result: {str(error).splitlines()[0]}.") from error
    if result["identity"] != identity or measurement_hash(result["measured"]) != measurement_hash(measured):
        raise InputError(f"{path} is the result of another run.")
    return result
