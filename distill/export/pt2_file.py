"""A program of torch.export as a file, and such a file run by torch."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from distill.errors import InputError, RunError

#: Name of the file inside of the archive that says what it is.
METADATA = "distill_explain.json"


def write(program: ExportedProgram, path: Path, *, outputs: Sequence[str], facts: str, opset: int | None) -> None:
    """Save a program.

    Raises:
        InputError: if a version of operators is asked for, which only ONNX has.
    """
    if opset is not None:
        raise InputError("--opset belongs to --format onnx; leave it out.")
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={METADATA: facts})
    path.write_bytes(buffer.getvalue())


def open_file(path: Path) -> Callable[[Tensor], dict[str, Tensor]]:
    """Load a file.

    Raises:
        RunError: if torch does not take it.
    """
    try:
        return torch.export.load(io.BytesIO(path.read_bytes())).module()
    except Exception as error:  # there is no common parent
        raise RunError(f"torch {torch.__version__} does not take the file: {error}") from error
