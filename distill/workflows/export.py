"""`export`: write the student of a finished run to a file, and compare the file with the student."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from distill.build import load_images
from distill.build.finished_run import load_run
from distill.data import as_image_set
from distill.errors import InputError, unknown_name
from distill.export import (
    FORMATS,
    Deployed,
    Parity,
    compare,
    export_program,
)
from distill.files import expand_home, locked, replacing
from distill.workflows.compared_runs import trust_in_runs
from distill.workflows.run import Run


class Exported(NamedTuple):
    """Path of an exported file, and its largest differences from the student."""

    path: Path
    parity: Parity


def export_model(
    run: Path | str | Run,
    *,
    format: str = "onnx",
    layer: str | None = None,
    opset: int | None = None,
    output: Path | str | None = None,
    overwrite: bool = False,
    data: Any = None,
    network: nn.Module | str | None = None,
    trust: bool = False,
    limit: int | None = None,
) -> Exported:
    """Write the student of a run to one file, with its input normalisation and optionally its maps.

    Convention:
        - The file is opened and compared with the student on the run's test split. It is kept only if both agree.

    Args:
        run: Run directory, or a finished run.
        format: ``onnx`` or ``pt2``.
        layer: Layer whose Grad-CAM++ maps are a second output. Default: no maps.
        opset: Version of the ONNX operator set. Default: chosen by torch.
        output: Output file. Default: ``student.onnx`` or ``student.pt2`` in the run directory.
        overwrite: Whether to replace an existing file.
        data: A data set of (image, label) to compare on. Default: the run's test split. If that is
            ``package.module:callable``: this name, which allows its import.
        network: For a run directory whose student was passed as an object: a network with its architecture, or
            ``package.module:callable`` that builds one. For a run directory whose student is
            ``package.module:callable``: this name.
        trust: Whether the files of the run may name any code to import.
        limit: Compare only on the first ``limit`` images.

    Raises:
        InputError: if the run or its test images cannot be loaded, the run names code to import that is not trusted,
            the format or layer is unknown, or the file exists or is being
            written by another process.
        RunError: if the student cannot be exported, or the file's outputs differ from the student's. The file is
            removed.
    """
    if format not in FORMATS:
        raise InputError("--format: " + unknown_name("format", format, FORMATS))
    kind = FORMATS[format]
    kind.check_installed()
    if isinstance(run, Run):
        student, config = run.student, run.config
    else:
        student, config = load_run(run, network=network, trust=trust)
    folder = run.directory if isinstance(run, Run) else Path(expand_home(run))
    path = Path(expand_home(output)) if output else folder / f"student{kind.suffix}"
    if path.is_dir():
        raise InputError(f"--output: {path} is a folder; give the name of a file.")
    _check_free(path, overwrite=overwrite)
    if data is None or isinstance(data, str):
        trusted = trust_in_runs([run], named=(network, data), trust=trust)
        test = load_images(config.data, "test", trust=trusted, source=folder / "config.yaml")
    else:
        test = as_image_set(data, name="data")
    images = test.images
    if images.shape[1] != student.spec.in_channels:
        raise InputError(
            f"the student takes {student.spec.in_channels} channels, but the test images have {images.shape[1]}."
        )
    deployed = Deployed(student, size=(images.shape[2], images.shape[3]), layer=layer)
    with locked(path.parent, doing=f"exporting {path.name}", name=f".{path.name}.lock", keep=False):
        _check_free(path, overwrite=overwrite)
        program = export_program(deployed)
        facts = json.dumps(deployed.facts())
        with replacing(path) as part:
            kind.write(program, part, outputs=deployed.outputs, facts=facts, opset=opset)
            parity = compare(kind.open(part), deployed, images, limit=limit)
    return Exported(path, parity)


def _check_free(path: Path, *, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists. Replace it with --overwrite, or choose another --output.")
