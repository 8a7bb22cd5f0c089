"""`ReadPlan`: a forward pass of a traced network that also returns the values of layers and of their heads."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, NamedTuple

from torch import fx

from distill.models.graph import NetworkGraph
from distill.models.layout_finder import LayoutFinder, is_channels_first
from distill.models.staged_head import Cut, StagedHead, make_cut
from distill.types import StagedOutput


class ReadPlan(NamedTuple):
    """A forward pass that also returns the values needed for a set of layers and their heads."""

    reading: fx.GraphModule
    layers: tuple[str, ...]
    cuts: dict[str, Cut]
    layouts: dict[str, LayoutFinder]

    def run(self, *images: Any, **named: Any) -> StagedOutput:
        """Run the forward pass."""
        logits, values = self.reading(*images, **named)
        activations = {name: values[name] for name in self.layers}
        return StagedOutput(
            logits=logits,
            activations=activations,
            heads={name: StagedHead.after(cut, values) for name, cut in self.cuts.items()},
            layouts=self.layouts,
            image_shape=tuple(images[0].shape) if self.layouts and len(images) == 1 else (),
        )

    @classmethod
    def make(cls, graph: NetworkGraph, paths: Mapping[str, str], headed: Container[str], training: bool) -> ReadPlan:
        """Build the forward pass for layers: find their nodes, their heads, and the values to record for them.

        Args:
            graph: The traced network.
            paths: Dotted path of the module for each layer.
            headed: Layers that get a head.
            training: Whether the network is in training mode.
        """
        nodes = {layer: graph.node(path) for layer, path in paths.items()}
        cuts = {layer: make_cut(graph, node) for layer, node in nodes.items() if layer in headed}
        read = dict(nodes)
        for layer, cut in cuts.items():
            recorded = [graph.logits, nodes[layer], *cut.pull_back.reads]
            recorded += [
                node.all_input_nodes[0]
                for node in cut.pull_back.nodes
                # the inputs of batch normalisation, if it may use batch statistics
                if node.name in cut.batch_norms and (training or cut.batch_norms[node.name].running_mean is None)
            ]
            read |= {node.name: node for node in recorded}
            read |= {node.name: node for node in graph.graph.nodes if node.name in (*cut.sizes, *cut.bypassing)}
        reading = graph.reading(read)
        layouts = {
            layer: LayoutFinder(path, graph.network, lambda images, layer=layer: reading(images)[1][layer])  # type: ignore[misc]
            for layer, path in paths.items()
            if not is_channels_first(graph, nodes[layer])
        }
        return cls(reading, tuple(paths), cuts, layouts)
