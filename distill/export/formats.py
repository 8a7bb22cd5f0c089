"""The kinds of file by name: how each is written, and how it is run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

from torch import Tensor
from torch.export import ExportedProgram

from distill.errors import InputError
from distill.export import onnx_file, pt2_file

#: A file that was opened: images in [0, 1] to what comes out, by name.
Session: TypeAlias = Callable[[Tensor], Mapping[str, Tensor]]


class Write(Protocol):
    """How a program becomes a file."""

    def __call__(
        self, program: ExportedProgram, path: Path, *, outputs: Sequence[str], facts: str, opset: int | None
    ) -> None:
        """Write a program with the names of what comes out and JSON of what it is, for a version of the operators."""


class Format(NamedTuple):
    """One kind of file.

    Args:
        suffix: Of its name.
        packages: What must be installed for it.
        write: How a program is written.
        open: How a file is run.
    """

    suffix: str
    packages: tuple[str, ...]
    write: Write
    open: Callable[[Path], Session]

    def check_installed(self) -> None:
        """Raise an InputError that says what to install, unless all is there."""
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise InputError(f'{", ".join(missing)} not installed; pip install "distill-explain[export]"')


FORMATS: Mapping[str, Format] = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), onnx_file.write, onnx_file.open_file),
    "pt2": Format(".pt2", (), pt2_file.write, pt2_file.open_file),
}
