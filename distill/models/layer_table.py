"""`layer_table`: the layers of a network that can be explained, with shape, sign, cut and way of differentiation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch

from distill.models.final_layer import ReadModule, feature_maps, try_network
from distill.models.layouts import ConvertedHead, LayerMaps, read_maps
from distill.models.staged import StagedNetwork
from distill.models.staged_head import StagedHead
from distill.types import StagedOutput


class LayerRow(NamedTuple):
    """A layer of a network, as `distill list layers` prints it.

    Args:
        layer: Dotted path of the layer.
        names: Names of the layer, such as ``final``.
        kind: Class of the module.
        shape: Shape of its output for one image, without the axis of the samples.
        signed: Whether the output has negative values: that of random images in evaluation mode.
        cut: Whether every path from the images to the logits leads through it.
        gradient: How its gradient is computed: ``closed form``, ``linear backward``, ``autograd``, or ``hooks`` for
            autograd in a network that torch.fx cannot trace; empty if it has none.
        problem: Why it has no maps; empty if it has.
    """

    layer: str
    names: tuple[str, ...]
    kind: str
    shape: tuple[int, ...]
    signed: bool
    cut: bool
    gradient: str
    problem: str


def layer_table(network: StagedNetwork, *, size: int | Sequence[int]) -> list[LayerRow]:
    """Return the layers of a network that have positions, in the order of the forward pass.

    Args:
        network: The network; its mode and its random state do not change.
        size: Height and width of the images, in pixels.

    Raises:
        ValueError: If the network cannot be run on images of this size.

    Example:
        >>> from distill.models import create_model
        >>> row = layer_table(create_model("wrn_10_1", num_classes=10), size=32)[-1]
        >>> row.layer, row.names, row.shape, row.signed, row.gradient
        ('relu', ('final',), (64, 8, 8), False, 'closed form')
    """
    height, width = (size, size) if isinstance(size, int) else size
    training = network.training
    network.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = try_network(network.network, in_channels=network.spec.in_channels, size=(height, width))
            images = torch.zeros(2, network.spec.in_channels, height, width)
            rows = {one.path: one for one in feature_maps(trial) if one.path in network.paths()}
            named = {**network.cuts, **network.taps}
            order = [*rows, *dict.fromkeys(path for path in named.values() if path not in rows)]
            names = {path: tuple(name for name, at in named.items() if at == path) for path in order}
            layers = {path: (*names[path], path)[0] for path in order}
            with torch.no_grad():
                output = network.run(images.to(next(network.parameters())), list(layers.values()))
            return [_row(network, path, layers[path], names[path], rows.get(path), output) for path in order]
    finally:
        network.train(training)


def _row(
    network: StagedNetwork,
    path: str,
    layer: str,
    names: tuple[str, ...],
    read: ReadModule | None,
    output: StagedOutput,
) -> LayerRow:
    cut = network.is_cut(layer)
    values = output.activations[layer]
    signed = read.negative if read is not None else bool((values < 0).any())
    problem = ""
    try:
        maps = read_maps(output, layer)
    except ValueError as error:
        maps, problem = LayerMaps(values, None), str(error)
    gradient = _gradient(maps) if cut else ""
    kind = "" if read is None else type(read.module).__name__
    return LayerRow(path, names, kind, tuple(values.shape[1:]), signed, cut, gradient, problem)


def _gradient(maps: LayerMaps) -> str:
    head = maps.head
    if head is None:
        return ""
    if not isinstance(head.head if isinstance(head, ConvertedHead) else head, StagedHead):
        return "hooks"
    if head.classifier is not None:
        return "closed form"
    return "linear backward" if head.obstacle(maps.activations) is None else "autograd"
