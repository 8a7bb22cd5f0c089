"""Results of runs, kept by what was run and what was measured, so that nothing is run twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from distill.errors import InputError
from distill.files import replacing, write_text

Figures = dict[str, float | None]


class RunResult(TypedDict):
    """What one run came to, with all that it depends on; see :class:`distill.report.ablation.record.TrialResult`."""

    format: Literal[1]
    identity: str
    measured: dict[str, Any]
    config: dict[str, Any]
    figures: Figures
    seconds: float


_ADAPTER = TypeAdapter(RunResult)


def measurement_hash(measured: Mapping[str, Any]) -> str:
    """Hash how a run is evaluated: test sets and maps.

    Example:
        >>> one, other = {"maps": {}, "test_sets": {"a": {}}}, {"test_sets": {"a": {}}, "maps": {}}
        >>> measurement_hash(one) == measurement_hash(other)
        True
    """
    return hashlib.sha256(json.dumps(measured, sort_keys=True, default=str).encode()).hexdigest()[:8]


class Results:
    """Folders of results; the first one is written to.

    Args:
        folders: The own one, then others that are only read.
    """

    def __init__(self, folders: Sequence[Path | str]) -> None:
        self.folders = [Path(folder) for folder in folders]

    def path(self, identity: str, measured: Mapping[str, Any]) -> Path:
        """Say where a result of one's own lies."""
        return self.folders[0] / self._name(identity, measured)

    def find(self, identity: str, measured: Mapping[str, Any], figures: Iterable[str]) -> RunResult | None:
        """Give the result of a run, if one is there that has all these figures.

        Raises:
            InputError: if its file cannot be read.
        """
        wanted = set(figures)
        for folder in self.folders:
            path = folder / self._name(identity, measured)
            if path.is_file():
                result = _read(path)
                if wanted <= result["figures"].keys():
                    return result
        return None

    def remember_run(self, identity: str, run: Path) -> None:
        """Note where a finished run lies, for those who want other figures of it."""
        note = self._note(identity)
        with replacing(note, suffix=f".{os.getpid()}.part") as part:
            part.write_text(os.path.relpath(run, self.folders[0]), encoding="utf-8")

    def find_run(self, identity: str) -> Path | None:
        """Say where a run of this identity lies, if one was noted."""
        try:
            return Path(os.path.normpath(self.folders[0] / self._note(identity).read_text(encoding="utf-8")))
        except OSError:
            return None

    def _note(self, identity: str) -> Path:
        return self.folders[0] / ".runs" / identity

    def save(self, result: RunResult) -> Path:
        """Write a result; the file appears whole or not at all."""
        path = self.path(result["identity"], result["measured"])
        return write_text(path, json.dumps(result, indent=2, allow_nan=False, ensure_ascii=False) + "\n")

    def keep(self, result: RunResult) -> None:
        """Write a result, unless the process that found it did so on this disk already."""
        if not self.path(result["identity"], result["measured"]).exists():
            self.save(result)

    @staticmethod
    def _name(identity: str, measured: Mapping[str, Any]) -> str:
        return f"{identity}-{measurement_hash(measured)}.json"


def _read(path: Path) -> RunResult:
    try:
        return _ADAPTER.validate_python(json.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, ValueError) as error:
        raise InputError(
            f"{path} is not the result of a run: {str(error).splitlines()[0]}; delete it, and it is measured again."
        ) from error
