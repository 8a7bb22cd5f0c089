"""Values of the denominator of Grad-CAM++, 2 + g sum(A), by layer.

    python scripts/denominators.py RUN [--images N]

For positive gradients, the first column shows how far the denominator is from 2, where alpha is 1/2 and Grad-CAM++
equals positive-gradient Grad-CAM. Negative gradients are used only by the signed method of section 7.1; the other
columns show how many lie past the pole at g sum(A) = -2, and for how many images the signed map is empty. The maps
explain the labels of the run's test split.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from compare_maps import load
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from distill.errors import InputError
from distill.explain import Explainer
from distill.explain.gradients import score_gradients

COLUMNS = ("layer", "median of g sum(A), g > 0", "past the pole, g < 0", "signed maps empty")


def main() -> int:
    """Measure and print; return 2 if the input is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory of `distill train`")
    parser.add_argument(
        "--images",
        type=int,
        metavar="N",
        default=256,
        help="number of images, the first of the test split (default 256)",
    )
    arguments = parser.parse_args()
    try:
        if arguments.images < 1:
            raise InputError(f"`--images` must be at least 1, got {arguments.images}.")
        network, images = load(arguments.run)
    except InputError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]distill:[/] {escape(str(error))}", highlight=False)
        return error.exit_code
    pixels, labels = images.images[: arguments.images].float() / 255, images.labels[: arguments.images]
    table = Table(*COLUMNS, box=box.SIMPLE_HEAD, pad_edge=False)
    for layer in network.cuts:
        with torch.no_grad():
            output = network.run(pixels, [layer])
            activations = output.activations[layer]
            gradients = score_gradients(output.heads[layer], activations, labels, create_graph=False)
            empty = Explainer("grad_cam_pp_signed", layer).from_output(output, labels).flatten(1).amax(1) == 0
        product = (gradients * activations.sum((2, 3), keepdim=True)).expand_as(activations)
        expanded = gradients.expand_as(activations)
        past = (product[expanded < 0] < -2).double().mean()
        table.add_row(layer, f"{product[expanded > 0].median():.3f}", f"{past:.2%}", f"{empty.double().mean():.1%}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
