"""Cosine similarity of two methods' maps by layer, Grad-CAM++ and positive-gradient Grad-CAM by default.

    python scripts/compare_maps.py RUN [--images N] [--layers final group2 ...] [--methods A B] [--json FILE]

Lerma and Lucas (arXiv 2205.10838) found the two almost equal. Both methods explain the label of each image of the run's
test split, from one forward pass. An image with a map that is zero everywhere has no cosine; such images are counted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

import torch
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from distill.build import load_images, load_recorded_config
from distill.data import ImageSet
from distill.errors import InputError, unknown_name
from distill.explain import METHODS, Explainer
from distill.models import StagedNetwork, load_model
from distill.training import RunDirectory
from distill.training.environment import describe_machine


class Row(TypedDict):
    """Similarity of two methods at one layer; ``zero`` is the share of images left out because a map is zero."""

    layer: str
    mean: float | None
    median: float | None
    percentile_5: float | None
    n: int
    zero: float


class Loaded(NamedTuple):
    """A run's network in evaluation mode, and its test split."""

    network: StagedNetwork
    images: ImageSet


def load(run: Path) -> Loaded:
    """Read a run directory.

    Raises:
        InputError: if it is not a run directory, or the run has not finished.
    """
    recorded = RunDirectory(run).config
    if not recorded.exists():
        raise InputError(f"{run} is not a run directory: it has no {recorded.name}. Train one with `distill train`.")
    return Loaded(load_model(run), load_images(load_recorded_config(recorded).data, "test"))


def cosines(loaded: Loaded, layer: str, methods: Sequence[str], *, count: int, batch_size: int = 250) -> Tensor:
    """Return the cosines for the first ``count`` images, (N,); NaN if one of the maps is zero everywhere."""
    parts = []
    with torch.no_grad():
        for start in range(0, count, batch_size):
            rows = slice(start, min(start + batch_size, count))
            output = loaded.network.run(loaded.images.images[rows].float() / 255, [layer])
            labels = loaded.images.labels[rows]
            first, second = (
                Explainer(method, layer).from_output(output, labels).flatten(1).double() for method in methods
            )
            empty = (first.amax(1) == 0) | (second.amax(1) == 0)
            parts.append(torch.where(empty, torch.nan, torch.cosine_similarity(first, second, eps=1e-300)))
    return torch.cat(parts)


def summarise(layer: str, values: Tensor) -> Row:
    """Summarise the cosines of a layer."""
    kept = values[~values.isnan()]
    row = Row(
        layer=layer, mean=None, median=None, percentile_5=None, n=len(kept), zero=1 - len(kept) / max(len(values), 1)
    )
    if len(kept):
        low, middle = torch.quantile(kept, torch.tensor([0.05, 0.5], dtype=kept.dtype)).tolist()
        row |= {"mean": float(kept.mean()), "median": middle, "percentile_5": low}
    return row


def compare(loaded: Loaded, layers: Sequence[str] | None, methods: Sequence[str], images: int | None) -> list[Row]:
    """Compare two methods at layers of a network, by default at all its named cuts.

    Raises:
        InputError: if a method or layer is unknown, or ``images`` is below 1.
    """
    for method in methods:
        if method not in METHODS:
            raise InputError(unknown_name("method", method, METHODS, see="`distill list methods`"))
    if images is not None and images < 1:
        raise InputError(f"`--images` must be at least 1, got {images}.")
    count = min(images or len(loaded.images), len(loaded.images))
    rows = []
    for layer in layers or list(loaded.network.cuts):
        try:
            rows.append(summarise(layer, cosines(loaded, layer, methods, count=count)))
        except ValueError as error:
            raise InputError(str(error)) from error
    return rows


def show(rows: Sequence[Row], methods: Sequence[str]) -> None:
    """Print the table."""
    table = Table(title=f"cosine of {methods[0]} and {methods[1]}", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer")
    for column in ("mean", "median", "5th percentile", "n", "zero maps"):
        table.add_column(column, justify="right")
    for row in rows:
        figures = (row["mean"], row["median"], row["percentile_5"])
        cells = ["" if value is None else f"{value:.4f}" for value in figures]
        table.add_row(row["layer"], *cells, str(row["n"]), f"{row['zero']:.1%}")
    Console().print(table)


def main() -> int:
    """Compare and print; return 2 if the input is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory of `distill train`")
    parser.add_argument(
        "--images", type=int, metavar="N", help="number of images, the first of the test split (default: all)"
    )
    parser.add_argument("--layers", nargs="+", help="layers (default: all cuts of the network)")
    parser.add_argument(
        "--methods",
        nargs=2,
        metavar=("A", "B"),
        default=["grad_cam_pp", "positive_grad_cam"],
        help="the methods to compare",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures, with versions and processor")
    arguments = parser.parse_args()
    try:
        rows = compare(load(arguments.run), arguments.layers, arguments.methods, arguments.images)
    except InputError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]distill:[/] {escape(str(error))}", highlight=False)
        return error.exit_code
    show(rows, arguments.methods)
    if arguments.json:
        record = {"run": str(arguments.run), "methods": arguments.methods, "rows": rows, "machine": describe_machine()}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
