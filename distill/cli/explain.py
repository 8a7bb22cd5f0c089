"""`distill explain`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich import box
from rich.table import Table

from distill.console import PlainConsole, print_table
from distill.errors import InputError
from distill.files import expand_home, locked
from distill.report.explained import ImageExplanation, output_paths, save_explanations
from distill.workflows.explain import explain_images

FOLDER = "explained"


def run(
    run: str,
    images: list[str],
    *,
    reference: str | None,
    no_reference: bool,
    method: str,
    layer: str,
    layout: Literal["auto", "nchw", "nhwc", "tokens"],
    target: str | None,
    top_k: int,
    size: int | None,
    crop: bool,
    network: str | None,
    trust: bool,
    output: Path | None,
) -> None:
    """Explain the images, write the pictures, and print the classes and the paths of the pictures."""
    if reference is not None and no_reference:
        raise InputError("--reference and --no-reference exclude each other; give one of them.")
    folder = Path(expand_home(output or Path(run) / FOLDER))
    paths = output_paths(images, folder)
    console = PlainConsole(stderr=True, soft_wrap=True)
    teacher: str | Literal[False] | None = False if no_reference else reference
    explanations = explain_images(
        run,
        list(images),
        reference=teacher,
        method=method,
        layer=layer,
        layout=layout,
        target=target,
        size=size,
        crop=crop,
        network=network,
        trust=trust,
        notify=console.print,
    )
    with locked(folder, doing="explaining", keep=False):
        save_explanations(explanations, paths)
    print_table(PlainConsole(), _table(explanations, top_k), names=2)
    for path in paths:
        console.print(str(path))


def _table(explanations: Sequence[ImageExplanation], top_k: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("image", "class"):
        table.add_column(column)
    roles = [view.role for view in reversed(explanations[0].views)]
    for role in roles:
        table.add_column(role, justify="right")
    for explanation in explanations:
        other = dict(explanation.top(len(explanation.classes), of=roles[-1]))
        for rank, (name, probability) in enumerate(explanation.top(top_k)):
            cells = [f"{100 * p:.1f} %" for p in (probability, other[name])[: len(roles)]]
            table.add_row("" if rank else explanation.name, name, *cells)
        table.add_section()
    return table
