"""`distill export`."""

from __future__ import annotations

from pathlib import Path

from distill.console import PlainConsole
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
    network: str | None,
    data: str | None,
    trust: bool,
    output: Path | None,
    overwrite: bool,
    limit: int | None,
) -> None:
    """Export the student, and print the size of the file and its largest differences from the student."""
    if layer is not None and not maps:
        raise InputError("--layer sets the layer of the maps and needs --maps; add --maps.")
    layer = (layer or "final") if maps else None
    done = export_model(
        run,
        format=format,
        layer=layer,
        opset=opset,
        network=network,
        data=data,
        trust=trust,
        output=output,
        overwrite=overwrite,
        limit=limit,
    )
    console = PlainConsole(soft_wrap=True)
    console.print(f"{done.path}: {done.path.stat().st_size / 1e6:.2f} MB")
    console.print(_parity_text(done.parity, layer))


def _parity_text(parity: Parity, layer: str | None) -> str:
    *others, last = map(str, parity.batch_sizes)
    sizes = f"{', '.join(others)} and {last}" if others else last
    predictions = "all predictions are the same"
    if parity.ties:
        predictions = f"{parity.ties} predictions differ, where two classes are equally likely"
    maps = "" if parity.maps is None else f"; maps of {layer}, scaled to 1, differ by at most {parity.maps:.1e}"
    return (
        f"checked on {parity.images:,} test images in batches of {sizes}: logits differ by at most "
        f"{parity.logits:.1e}; {predictions}{maps}"
    )
