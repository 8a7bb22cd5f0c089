"""`ReadPlan`: a forward pass of a traced network that also returns the values of layers and of their heads."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, NamedTuple

from torch import fx

from distill.models.graph import NetworkGraph
from distill.models.layouts import LastAxis, last_axis_in_graph, layout_problems
from distill.models.staged_head import Cut, StagedHead, make_cut
from distill.types import StagedOutput


class ReadPlan(NamedTuple):
    """A forward pass that also returns the values needed for a set of layers and their heads."""

    reading: fx.GraphModule
    layers: tuple[str, ...]
    cuts: dict[str, Cut]
    last_axis: dict[str, LastAxis]

    def run(self, *images: Any, **named: Any) -> StagedOutput:
        """Run the forward pass."""
        logits, values = self.reading(*images, **named)
        activations = {name: values[name] for name in self.layers}
        return StagedOutput(
            logits=logits,
            activations=activations,
            not_maps=layout_problems(images[0] if images else None, activations, self.last_axis),
            heads={name: StagedHead.after(cut, values) for name, cut in self.cuts.items()},
        )

    @classmethod
    def make(cls, graph: NetworkGraph, paths: Mapping[str, str], taps: Container[str], training: bool) -> ReadPlan:
        """Build the forward pass for layers: find their nodes, the heads of cuts, and the values to record for them.

        Args:
            graph: The traced network.
            paths: Dotted path of the module for each layer.
            taps: Layers that get no head even if they are cuts.
            training: Whether the network is in training mode.
        """
        nodes = {layer: graph.node(path) for layer, path in paths.items()}
        cuts = {
            layer: make_cut(graph, node)
            for layer, node in nodes.items()
            if layer not in taps and graph.head_nodes(node) is not None
        }
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
            read |= {node.name: node for node in graph.graph.nodes if node.name in cut.sizes}
        last_axis = {layer: found for layer, path in paths.items() if (found := last_axis_in_graph(graph, path))}
        return cls(graph.reading(read), tuple(paths), cuts, last_axis)
