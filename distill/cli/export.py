"""`distill export`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from distill.errors import InputError
from distill.export import Parity
from distill.workflows.export import export_model


def run(
    run: str,
    *,
    format: str,
    maps: bool,
    layer: str | None,
    opset: int | None,
    output: Path | None,
    overwrite: bool,
    limit: int | None,
) -> None:
    """Write the file, and say how large it is and how near to the student."""
    if layer is not None and not maps:
        raise InputError("--layer is the layer of the maps; add --maps.")
    layer = (layer or "final") if maps else None
    done = export_model(run, format=format, layer=layer, opset=opset, output=output, overwrite=overwrite, limit=limit)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"{done.path}: {done.path.stat().st_size / 1e6:.2f} MB")
    console.print(_words(done.parity, layer))


def _words(parity: Parity, layer: str | None) -> str:
    *others, last = map(str, parity.batch_sizes)
    sizes = f"{', '.join(others)} and {last}" if others else last
    choice = "the first choice is the same on all"
    if parity.ties:
        choice = f"the first choice is another on {parity.ties}, where two classes are equally likely"
    maps = "" if parity.maps is None else f"; maps of {layer}, scaled to 1, differ by at most {parity.maps:.1e}"
    return (
        f"checked on {parity.images:,} test images in batches of {sizes}: logits differ by at most "
        f"{parity.logits:.1e}, {choice}{maps}"
    )
