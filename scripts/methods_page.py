"""One picture of every method on the same four images, and what each method costs.

    python scripts/methods_page.py RUN [--output docs/images/methods.png] [--seed N] [--time] [--json FILE]

The images are drawn from the run's test split by the seed; every map explains the label, and is shown as a share of its
own largest value, in the colours of the reports. With --time, the maps of a batch (one forward pass included) are timed
against the forward pass that reads the layer, made just before: all variants in turn, and the median of the ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare_maps import Loaded, load
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from distill.errors import InputError
from distill.explain import METHODS, Explainer
from distill.maps import normalize_maps, resize_maps
from distill.models import StagedNetwork
from distill.report.common.colours import COLOUR_MAP
from distill.training.environment import describe_machine

LAYERS = ("group2", "final")
PICTURES = 4
#: Inches of a panel and of the gap between two.
SIDE, GAP = 1.0, 0.06


def can(method: str, layer: str) -> bool:
    """Tell whether a method exists at a layer."""
    return METHODS[method].needs != "class_weights" or layer == "final"


def heat(network: StagedNetwork, method: str, layer: str, images: Tensor, labels: Tensor) -> Tensor:
    """Make maps in the size of the images, from 0 to 1."""
    maps = Explainer(method, layer)(network, images, labels).maps
    return normalize_maps(resize_maps(maps, images.shape[-2:]), "max")


def two_lines(name: str) -> str:
    """Break a long name at its middle underscore, so that labels do not run into each other."""
    parts = name.split("_")
    half = (len(parts) + 1) // 2
    return name if len(name) < 10 else "_".join(parts[:half]) + "\n_" + "_".join(parts[half:])


def draw(loaded: Loaded, *, seed: int, output: Path) -> None:
    """Draw a row for each image and layer, and a column for each method."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    chosen = torch.randperm(len(loaded.images), generator=torch.Generator().manual_seed(seed))[:PICTURES]
    images, labels = loaded.images.images[chosen].float() / 255, loaded.images.labels[chosen]
    spacing = ConstrainedLayoutEngine(w_pad=GAP / 2, h_pad=GAP / 2, wspace=0, hspace=0)
    rows, columns = PICTURES * len(LAYERS), 1 + len(METHODS)
    figure = Figure(figsize=(columns * SIDE + 0.45, rows * SIDE + 1.1), dpi=100, layout=spacing)
    FigureCanvasAgg(figure)
    blocks: NDArray[Any] = np.asarray(figure.subfigures(len(LAYERS), 1))
    for block, layer in zip(blocks, LAYERS, strict=True):
        grid = block.subplots(PICTURES, columns)
        block.suptitle(f"layer {layer}", x=0.005, ha="left", fontsize=10, fontweight="bold")
        grid[0][0].set_title("image", fontsize=8)
        for n, row in enumerate(grid):
            row[0].imshow(images[n].permute(1, 2, 0).numpy(), interpolation="nearest")
            row[0].set_ylabel(loaded.images.classes[int(labels[n])], fontsize=8)
        for column, method in enumerate(METHODS, start=1):
            maps = heat(loaded.network, method, layer, images, labels) if can(method, layer) else None
            for n in range(PICTURES):
                axis = grid[n][column]
                axis.imshow(images[n].mean(0).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                if maps is None:
                    axis.clear()
                    axis.text(
                        0.5, 0.5, "only at\nfinal", ha="center", va="center", fontsize=8, transform=axis.transAxes
                    )
                    continue
                shown = axis.imshow(maps[n].numpy(), cmap=COLOUR_MAP, vmin=0, vmax=1, alpha=0.6)
                if not bool(maps[n].any()):
                    axis.set_xlabel("zero", fontsize=7)
            grid[0][column].set_title(two_lines(method), fontsize=8)
        for axis in grid.flat:
            axis.set(xticks=[], yticks=[])
    bar = figure.colorbar(shown, ax=grid, orientation="horizontal", fraction=0.03, aspect=60, shrink=0.4)
    bar.set_label("share of the map's largest value", fontsize=8)
    bar.ax.tick_params(labelsize=7, length=2)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, format="png", metadata={"Software": None}, pil_kwargs={"optimize": True})


def seconds(run: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def time_methods(loaded: Loaded, *, batch: int, rounds: int) -> dict[str, dict[str, float]]:
    """Time the maps of a batch as multiples of a forward pass, by method and layer."""
    images, labels = loaded.images.images[:batch].float() / 255, loaded.images.labels[:batch]
    images = images.to(memory_format=torch.channels_last)
    network = loaded.network
    runs: dict[tuple[str, str], Callable[[], object]] = {
        (method, layer): partial(Explainer(method, layer), network, images, labels)
        for method in METHODS
        for layer in LAYERS
        if can(method, layer)
    }
    ratios: dict[tuple[str, str], list[float]] = {name: [] for name in runs}
    with torch.no_grad():
        for i in range(rounds + 1):
            for name, run in runs.items():
                forward = partial(network.run, images, [name[1]])
                forward()  # what ran before must be alike for both: caches and the allocator remember it
                base, cost = seconds(forward), seconds(run)
                if i > 0:
                    ratios[name].append(cost / base)
    costs: dict[str, dict[str, float]] = {method: {} for method in METHODS}
    for (method, layer), values in ratios.items():
        costs[method][layer] = statistics.median(values)
    return costs


def show(costs: dict[str, dict[str, float]], title: str) -> None:
    """Print the table."""
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("method")
    for layer in LAYERS:
        table.add_column(layer, justify="right")
    for method, row in costs.items():
        table.add_row(method, *(f"{row[layer]:.2f}" if layer in row else "" for layer in LAYERS))
    Console().print(table)


def main(given: Sequence[str] | None = None) -> int:
    """Parse, draw, time; exit 2 if the input is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory of a WRN")
    parser.add_argument("--output", type=Path, metavar="PNG", help="draw the picture")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of images (default 0)")
    parser.add_argument("--time", action="store_true", help="measure what each method costs")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of the timing (default 9)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the times with versions and processor")
    arguments = parser.parse_args(given)
    try:
        loaded = load(arguments.run)
        missing = [layer for layer in LAYERS if layer not in loaded.network.cuts]
        if missing:
            raise InputError(f"{arguments.run}: the page needs the layers {', '.join(LAYERS)} of a WRN.")
        if not (arguments.output or arguments.time):
            raise InputError("nothing to do: give --output PNG, --time, or both.")
    except InputError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]distill:[/] {escape(str(error))}", highlight=False)
        return error.exit_code
    if arguments.output:
        draw(loaded, seed=arguments.seed, output=arguments.output)
    if arguments.time:
        costs = time_methods(loaded, batch=arguments.batch, rounds=arguments.rounds)
        name = loaded.network.spec.name
        show(costs, f"maps as multiples of a forward pass, {name}, batch {arguments.batch}, float32")
        if arguments.json:
            arguments.json.write_text(json.dumps({"costs": costs, "machine": describe_machine()}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
