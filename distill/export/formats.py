"""Export formats: functions that write a program as ONNX or pt2, and functions that run such a file."""

from __future__ import annotations

import hashlib
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
from distill.importing import install_command
from distill.models.damage import check_archive
from distill.untrusted import check_regular

#: Name of the file inside the archive that holds the metadata, as JSON.
PT2_METADATA = "distill_explain.json"


def write_pt2(program: ExportedProgram, path: Path, *, outputs: Sequence[str], facts: str, opset: int | None) -> None:
    """Save a program as a torch.export archive; the arguments are those of :class:`Write`.

    Raises:
        InputError: if ``opset`` is given, which only ONNX has.
    """
    if opset is not None:
        raise InputError("--opset applies to --format onnx only; leave it out.")
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={PT2_METADATA: facts})
    path.write_bytes(buffer.getvalue())


def open_pt2(path: Path) -> Callable[[Tensor], dict[str, Tensor]]:
    """Load a torch.export archive.

    Raises:
        InputError: if the file is damaged.
        RunError: if torch cannot load it.
    """
    check_regular(path)
    check_archive(path, required=True)
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.ERROR)  # torch logs the traceback of the error that is raised below
    try:
        return torch.export.load(io.BytesIO(path.read_bytes())).module()
    except Exception as error:  # the possible errors have no common base class
        raise RunError(f"{path}: torch {torch.__version__} cannot load the file: {_first_line(error)}") from error
    finally:
        logger.setLevel(level)


#: Keys of the model metadata: facts as JSON, and the SHA-256 of the model without this entry.
ONNX_METADATA, ONNX_CHECKSUM = "distill_explain", "distill_explain_sha256"
#: The oldest opset that torch can write.
OLDEST_OPSET = 18


def write_onnx(program: ExportedProgram, path: Path, *, outputs: Sequence[str], facts: str, opset: int | None) -> None:
    """Convert a program to ONNX; the arguments are those of :class:`Write`.

    Raises:
        InputError: if ``opset`` is not supported.
        RunError: if an operation cannot be converted.
    """
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if opset is not None and not OLDEST_OPSET <= opset <= newest:
        raise InputError(f"--opset must be from {OLDEST_OPSET} to {newest}, got {opset}.")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted = torch.onnx.export(
                program,
                input_names=[INPUT],
                output_names=list(outputs),
                opset_version=opset,
                dynamic_shapes={INPUT: {0: BATCH}},  # name of the batch axis
                verbose=False,
            )
    except Exception as error:  # the conversion of an operation can raise anything
        raise RunError(f"the student cannot be converted to ONNX: {str(error).strip().splitlines()[0]}") from error
    assert converted is not None
    model = converted.model_proto
    _drop_source_locations(model)
    onnx.helper.set_model_props(model, {ONNX_METADATA: facts})
    onnx.helper.set_model_props(model, {ONNX_METADATA: facts, ONNX_CHECKSUM: _hash(model)})
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def open_onnx(path: Path) -> Callable[[Tensor], dict[str, Tensor]]:
    """Load an ONNX file on the CPU.

    Raises:
        InputError: if the file does not fit its checksum; files of older versions have none.
        RunError: if onnxruntime cannot load it.
    """
    import onnx
    import onnxruntime

    check_regular(path)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's errors have no common base class
        raise RunError(f"{path}: onnx {onnx.__version__} cannot load the file: {_first_line(error)}") from error
    properties = {entry.key: entry.value for entry in model.metadata_props}
    expected = properties.pop(ONNX_CHECKSUM, None)
    onnx.helper.set_model_props(model, properties)
    if expected is not None and expected != _hash(model):
        raise InputError(f"{path} was changed or damaged after it was written. Export the student again.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the possible errors have no common base class
        version = onnxruntime.__version__
        raise RunError(f"{path}: onnxruntime {version} cannot load the file: {_first_line(error)}") from error
    names = [output.name for output in session.get_outputs()]

    def run(images: Tensor) -> dict[str, Tensor]:
        values = session.run(names, {INPUT: images.numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}

    return run


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]


def _hash(model: Any) -> str:
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def _drop_source_locations(model: Any) -> None:
    """Remove the Python source locations of the nodes: they reveal local paths and are half of a small file."""
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        for node in nodes:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")


#: A loaded file: a function from images in [0, 1] to the outputs by name.
Session: TypeAlias = Callable[[Tensor], Mapping[str, Tensor]]


class Write(Protocol):
    """A function that writes a program to a file."""

    def __call__(
        self, program: ExportedProgram, path: Path, *, outputs: Sequence[str], facts: str, opset: int | None
    ) -> None:
        """Write a program.

        Args:
            program: The exported program.
            path: The file to write.
            outputs: Names of the outputs.
            facts: Metadata, as JSON.
            opset: Version of the ONNX operators; None for torch's default.
        """


class Format(NamedTuple):
    """An export format.

    Args:
        suffix: File name suffix.
        packages: Packages that must be installed.
        write: Function that writes a program.
        open: Function that loads a file.
    """

    suffix: str
    packages: tuple[str, ...]
    write: Write
    open: Callable[[Path], Session]

    def check_installed(self) -> None:
        """Check that the required packages are installed.

        Raises:
            InputError: with the packages that are missing and how to install them.
        """
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise InputError(f"{', '.join(missing)} not installed; run `{install_command('export')}`.")


FORMATS: Mapping[str, Format] = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), write_onnx, open_onnx),
    "pt2": Format(".pt2", (), write_pt2, open_pt2),
}
