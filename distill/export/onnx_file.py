"""A program as an ONNX file, and such a file run by onnxruntime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from distill.errors import InputError, RunError
from distill.export.deployed import BATCH, INPUT

#: Key of the metadata under which a file says what it is.
METADATA = "distill_explain"
#: The first version of the operators that torch writes.
OLDEST_OPSET = 18


def write(program: ExportedProgram, path: Path, *, outputs: Sequence[str], facts: str, opset: int | None) -> None:
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
    onnx.helper.set_model_props(model, {METADATA: facts})
    _forget_where_it_was_made(model)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def open_file(path: Path) -> Callable[[Tensor], dict[str, Tensor]]:
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


def _forget_where_it_was_made(model: Any) -> None:
    """Drop what every node says of the source files, which are nobody's business and half of a small file."""
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        for node in nodes:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
