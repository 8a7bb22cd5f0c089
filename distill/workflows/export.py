"""`export`: a finished run -> a file with the student alone, checked against the student before it is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

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
from distill.files import replacing
from distill.workflows.train import Run


class Exported(NamedTuple):
    """A file that was kept, and how near it is to the student."""

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
    limit: int | None = None,
) -> Exported:
    """Write the student of a run, with its input scaling and perhaps its maps, to one file.

    Convention:
        - The file is opened again and compared with the student on the run's test split, and kept only if both agree.

    Args:
        run: Run directory, or a finished run.
        format: ``onnx`` or ``pt2``.
        layer: Layer whose Grad-CAM++ maps come out beside the logits; no maps if left out.
        opset: Version of the ONNX operators; torch's choice if left out.
        output: The file; ``student.onnx`` or ``student.pt2`` in the run directory if left out.
        overwrite: Whether a file of that name may be replaced.
        data: A data set of (image, label) to compare on, in the place of the run's test split.
        limit: Compare on the first images only.

    Raises:
        InputError: if the run, its test images, the format or the layer are not to be had, or the file exists.
        RunError: if the student cannot be written so, or the file gives something else; no file is left then.
    """
    if format not in FORMATS:
        raise InputError("--format: " + unknown_name("format", format, FORMATS))
    kind = FORMATS[format]
    kind.check_installed()
    student, config = (run.student, run.config) if isinstance(run, Run) else load_run(run)
    folder = run.directory if isinstance(run, Run) else Path(run)
    path = Path(output) if output else folder / f"student{kind.suffix}"
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file.")
    if path.exists() and not overwrite:
        raise InputError(f"{path} is there already; replace it with --overwrite, or choose another --output.")
    test = load_images(config.data, "test") if data is None else as_image_set(data, name="data")
    images = test.images
    if images.shape[1] != student.spec.in_channels:
        raise InputError(
            f"the student takes {student.spec.in_channels} channels, its test images have {images.shape[1]}."
        )
    deployed = Deployed(student, size=(images.shape[2], images.shape[3]), layer=layer)
    program = export_program(deployed)
    facts = json.dumps(deployed.facts())
    with replacing(path) as part:
        kind.write(program, part, outputs=deployed.outputs, facts=facts, opset=opset)
        parity = compare(kind.open(part), deployed, images, limit=limit)
    return Exported(path, parity)
