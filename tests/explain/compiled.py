"""Compare compiled with eager steps; a separate program, because the shape checks of the tests cannot be compiled.

python -m tests.explain.compiled BACKEND train|eval|WAY...
"""

from __future__ import annotations

import json
import sys

import torch
from torch import Tensor

import distill.explain  # before tests.conftest asks for the checks
import distill.losses
import distill.models  # noqa: F401
from tests.explain.steps import batch, gradients, make_step, teacher_maps, tiny_network

LAYERS = {"closed form": "final", "linear backward": "relu1"}


def two_steps(layer: str, backend: str | None, *, training: bool) -> list[Tensor]:
    """Return losses, gradients and buffers after two steps; the second must not reuse constants of the first."""
    images, labels = batch()
    network = tiny_network()
    maps = teacher_maps(network.eval(), layer, images)
    network = tiny_network().train(training)
    step = make_step(network, layer)
    if backend:
        torch._dynamo.reset()
        step = torch.compile(step, backend=backend, fullgraph=True)
    losses = []
    for given in (images, 1 - images):
        network.zero_grad()
        loss = step(given, labels, maps)
        loss.backward()
        losses.append(loss.detach())
    return [*losses, *gradients(network), *(buffer.double() for buffer in network.buffers())]


def compare(layer: str, backend: str, *, training: bool) -> dict[str, float]:
    """Return the largest difference to eager, and the sizes of the compared values."""
    eager = two_steps(layer, None, training=training)
    found = two_steps(layer, backend, training=training)
    return {
        "first": float(eager[0]),
        "second": float(eager[1]),
        "gradient": float(eager[2].abs().amax()),
        "difference": max(float((a - b).abs().amax()) for a, b in zip(found, eager, strict=True)),
    }


def graphs(name: str, layer: str) -> list[int]:
    """Return the number of graphs and of graph breaks of a compiled step."""
    network = tiny_network(name).train()
    images, labels = batch()
    step, maps = make_step(network, layer), teacher_maps(network, layer, images)
    torch._dynamo.reset()
    found = torch._dynamo.explain(step)(images, labels, maps)
    return [found.graph_count, found.graph_break_count]


if __name__ == "__main__":
    backend, *wanted = sys.argv[1:]
    results: dict[str, object] = {
        f"{way}, {mode}": compare(layer, backend, training=mode == "train")
        for way, layer in LAYERS.items()
        for mode in ("train", "eval")
        if way in wanted and mode in wanted
    }
    if backend == "aot_eager":
        results["graphs"] = {layer: graphs("wrn_10_1", layer) for layer in ("group1", "group2", "final")}
    print(json.dumps(results))
