"""A picture of every method on the same four images, and the cost of each method.

    python scripts/methods_page.py RUN [--output docs/images/methods.png] [--seed N] [--time] [--json FILE]

The seed selects the images from the run's test split. Every map explains the label and is divided by its largest value;
the colours are those of the reports. With --time, the time for the maps of a batch, with one forward pass, is divided
by that of the forward pass that reads the layer, made just before. All variants are timed in turn; the median is shown.
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


def is_defined(method: str, layer: str) -> bool:
    """Return whether a method is defined at a layer."""
    return METHODS[method].needs != "class_weights" or layer == "final"


def heat(network: StagedNetwork, method: str, layer: str, images: Tensor, labels: Tensor) -> Tensor:
    """Return maps in the size of the images, in [0, 1]."""
    maps = Explainer(method, layer)(network, images, labels).maps
    return normalize_maps(resize_maps(maps, images.shape[-2:]), "max")


def two_lines(name: str) -> str:
    """Break a long name at its middle underscore, so that labels do not overlap."""
    parts = name.split("_")
    half = (len(parts) + 1) // 2
    return name if len(name) < 10 else "_".join(parts[:half]) + "\n_" + "_".join(parts[half:])


def draw(loaded: Loaded, *, seed: int, output: Path) -> None:
    """Draw a grid with a row for each image and layer and a column for each method."""
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
            maps = heat(loaded.network, method, layer, images, labels) if is_defined(method, layer) else None
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
    """Return the duration of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def time_methods(loaded: Loaded, *, batch: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return the time for the maps of a batch as a multiple of a forward pass, by method and layer."""
    images, labels = loaded.images.images[:batch].float() / 255, loaded.images.labels[:batch]
    images = images.to(memory_format=torch.channels_last)
    network = loaded.network
    runs: dict[tuple[str, str], Callable[[], object]] = {
        (method, layer): partial(Explainer(method, layer), network, images, labels)
        for method in METHODS
        for layer in LAYERS
        if is_defined(method, layer)
    }
    ratios: dict[tuple[str, str], list[float]] = {name: [] for name in runs}
    with torch.no_grad():
        for i in range(rounds + 1):
            for name, run in runs.items():
                forward = partial(network.run, images, [name[1]])
                forward()  # the same work before both, because caches and the allocator keep its state
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
    """Draw and time; return 2 if the input is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory of a WRN")
    parser.add_argument("--output", type=Path, metavar="PNG", help="write the picture")
    parser.add_argument("--seed", type=int, default=0, help="seed of the selection of images (default 0)")
    parser.add_argument("--time", action="store_true", help="measure the cost of each method")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of the timing (default 9)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the times, with versions and processor")
    arguments = parser.parse_args(given)
    try:
        loaded = load(arguments.run)
        missing = [layer for layer in LAYERS if layer not in loaded.network.cuts]
        if missing:
            raise InputError(f"{arguments.run}: expected a WRN with the layers {', '.join(LAYERS)}.")
        if not (arguments.output or arguments.time):
            raise InputError("nothing to do; expected --output PNG, --time, or both.")
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
