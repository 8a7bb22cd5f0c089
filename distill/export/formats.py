"""Export formats: how a program is written as ONNX or pt2, and how such a file is run."""

from __future__ import annotations

import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.export import ExportedProgram

from distill.errors import InputError, RunError
from distill.export.program import BATCH, INPUT

#: Name of the file inside of the archive that says what it is.
PT2_METADATA = "distill_explain.json"


def write_pt2(program: ExportedProgram, path: Path, *, outputs: Sequence[str], facts: str, opset: int | None) -> None:
    """Save a program.

    Raises:
        InputError: if a version of operators is asked for, which only ONNX has.
    """
    if opset is not None:
        raise InputError("--opset belongs to --format onnx; leave it out.")
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={PT2_METADATA: facts})
    path.write_bytes(buffer.getvalue())


def open_pt2(path: Path) -> Callable[[Tensor], dict[str, Tensor]]:
    """Load a file.

    Raises:
        RunError: if torch does not take it.
    """
    try:
        return torch.export.load(io.BytesIO(path.read_bytes())).module()
    except Exception as error:  # there is no common parent
        raise RunError(f"torch {torch.__version__} does not take the file: {error}") from error


#: Key of the metadata under which a file says what it is.
ONNX_METADATA = "distill_explain"
#: The first version of the operators that torch writes.
OLDEST_OPSET = 18


def write_onnx(program: ExportedProgram, path: Path, *, outputs: Sequence[str], facts: str, opset: int | None) -> None:
    """Translate a program; input and outputs keep their names.

    Raises:
        InputError: if the version of the operators is not to be had.
        RunError: if an operation has no translation.
    """
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if opset is not None and not OLDEST_OPSET <= opset <= newest:
        raise InputError(f"--opset must be from {OLDEST_OPSET} to {newest}, got {opset}.")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            translated = torch.onnx.export(
                program,
                input_names=[INPUT],
                output_names=list(outputs),
                opset_version=opset,
                dynamic_shapes={INPUT: {0: BATCH}},  # what the axis is called
                verbose=False,
            )
    except Exception as error:  # whatever the translation of some operation raises
        raise RunError(f"the student cannot be written as ONNX: {str(error).strip().splitlines()[0]}") from error
    assert translated is not None
    model = translated.model_proto
    onnx.helper.set_model_props(model, {ONNX_METADATA: facts})
    _drop_source_locations(model)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def open_onnx(path: Path) -> Callable[[Tensor], dict[str, Tensor]]:
    """Open a file on the CPU.

    Raises:
        RunError: if onnxruntime does not take it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own errors have no common parent
        raise RunError(f"onnxruntime {onnxruntime.__version__} does not take the file: {error}") from error
    names = [output.name for output in session.get_outputs()]

    def run(images: Tensor) -> dict[str, Tensor]:
        values = session.run(names, {INPUT: images.numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}

    return run


def _drop_source_locations(model: Any) -> None:
    """Drop what every node says of the source files, which are nobody's business and half of a small file."""
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        for node in nodes:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")


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
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), write_onnx, open_onnx),
    "pt2": Format(".pt2", (), write_pt2, open_pt2),
}
