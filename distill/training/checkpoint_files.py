"""Checkpoint files: written atomically beside the file that they replace, and chosen when a run resumes."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from distill.errors import InputError
from distill.files import replacing
from distill.models.damage import add_checksum, check_archive, check_checkpoint, check_sizes
from distill.training.run_directory import RunDirectory
from distill.untrusted import check_regular

#: In a checkpoint: the content of ``metrics.csv`` up to its step.
METRICS_RECORD = "metrics_csv"
#: Errors of `torch.load` for a file that is empty, truncated, damaged or something else.
_UNREADABLE = (
    *(RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError, AssertionError),
    *(MemoryError, OverflowError, ImportError, pickle.UnpicklingError),
)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Replace checkpoints atomically, and keep the previous ``last.ckpt``.

    Convention:
        - A checkpoint is written beside the file that it replaces and is flushed to the disk, so that the replacement
          is atomic on every file system. Lightning writes in the system's temporary folder, from which a file is copied
          if that is on another disk.
        - A file is kept as ``previous.ckpt`` if this process has written or loaded it. A damaged ``last.ckpt``
          therefore never replaces a good ``previous.ckpt``. Without hard links, no previous file is kept.

    Args:
        directory: The files of the run.

    Raises:
        StorageError: If the file system refuses, for example because the disk is full. The old files are unchanged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     directory = RunDirectory(Path(folder))
        ...     files = AtomicCheckpointIO(directory)
        ...     for step in range(3):
        ...         files.save_checkpoint({"global_step": step}, directory.last)
        ...     [torch.load(path)["global_step"] for path in (directory.last, directory.previous)]
        [2, 1]
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._good: set[Path] = set()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint, with a checksum of its content."""
        path = Path(path)
        self._directory.check_exists()
        with replacing(path) as part:
            with part.open("wb") as file:
                torch.save(add_checksum(checkpoint), file)
            if path == self._directory.last and path in self._good:
                _link(path, self._directory.previous)
        self._good.add(path)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = lambda storage, location: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint."""
        content: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only)
        self._good.add(Path(path))
        return content


class ResumePoint(NamedTuple):
    """The checkpoint that a run resumes from.

    Args:
        path: The checkpoint; None if the run starts from the beginning.
        step: Number of completed steps.
        message: Says which damaged files were passed over; empty if there are none.
        metrics: The content of ``metrics.csv`` up to this step; None in checkpoints of older versions.
    """

    path: Path | None
    step: int
    message: str = ""
    metrics: str | None = None


def find_resume_point(directory: RunDirectory) -> ResumePoint:
    """Return the newest checkpoint that can be read: the last, else the one before it, else the best.

    Raises:
        InputError: If there are checkpoints, but none of them can be read.

    Example:
        >>> find_resume_point(RunDirectory(Path("runs/none")))
        ResumePoint(path=None, step=0, message='', metrics=None)
    """
    damaged = []
    for path in directory.checkpoints:
        if not path.exists():
            continue
        try:
            content = _load_undamaged(path, mmap=True)
            step, recorded = int(content["global_step"]), content.get(METRICS_RECORD)
            metrics = recorded if isinstance(recorded, str) else None
        except _UNREADABLE:
            damaged.append(path)
            continue
        if not damaged:
            return ResumePoint(path, step, metrics=metrics)
        names = " and ".join(str(one) for one in damaged)
        message = f"{names} cannot be read; the run resumes from {path.name} at step {step}."
        return ResumePoint(path, step, message, metrics)
    if damaged:
        raise InputError(
            f"{' and '.join(str(one) for one in damaged)} cannot be read, so the run cannot resume. Train from the "
            "start with --overwrite."
        )
    return ResumePoint(None, 0)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of a run; no code of the file is executed.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        return _load_undamaged(path)
    except _UNREADABLE as error:
        raise InputError(f"{path} cannot be read. Train from the start with --overwrite.") from error


def _load_undamaged(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint, and compare it with its checksums."""
    check_regular(path)
    check_archive(path)
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    check_sizes(content, path)
    check_checkpoint(content, path)
    return content


def _link(source: Path, target: Path) -> None:
    """Let ``target`` be another name of ``source``; an old ``target`` stays where the file system has no hard links."""
    part = target.with_name(target.name + ".part")
    with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)
        os.link(source, part)
        part.replace(target)
    with contextlib.suppress(OSError):  # a replacement by the same file does nothing
        part.unlink(missing_ok=True)
