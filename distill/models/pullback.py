"""The linear backward: the gradient through a head, written as ordinary forward operations.

As long as no ReLU opens or closes, a head of convolutions, constant batch normalisation, ReLU, sums, pooling and linear
layers is linear. Given which ReLUs were open in the pass that was already made, its transpose is a chain of transposed
convolutions, masks and scales. That chain is differentiable in the weights like any other forward pass, so no graph is
differentiated twice and the head is not run again. In exact arithmetic it equals autograd.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, fx

from distill.models.graph import NetworkGraph
from distill.models.rules import READ_INPUT, READ_OUTPUT, Statistics, Step, broadcasts, rule_for, sources
from distill.traced import DROPOUT


class _Link(NamedTuple):
    """An operation and the nodes that get their share; names only, which a compiler can follow."""

    name: str
    given: str
    module: Any
    sources: tuple[str, ...]


class PullBack:
    """The transpose of a head.

    Args:
        graph: The traced network.
        cut: Where the head begins.

    Attributes:
        rules: The rule of every operation, by the name of its node.
        reads: Nodes whose values the forward pass must leave.
        unsupported: Operations without a rule; if there are any, only autograd can differentiate the head.
    """

    def __init__(self, graph: NetworkGraph, cut: fx.Node) -> None:
        self.cut = cut
        self.nodes = graph.head_nodes(cut) or []
        self.logits = graph.logits
        self.modules = {node: graph.module(node) for node in self.nodes}
        rules = {node: rule_for(node, self.modules[node], graph.spatial_axes(node)) for node in self.nodes}
        known = {node: rule for node, rule in rules.items() if rule is not None}
        for node in broadcasts(graph.graph, known):
            del known[node]
        self.unsupported = tuple(str(node.target) for node in self.nodes if node not in known)
        self.rules = {node.name: rule for node, rule in known.items()}
        self.reads = tuple(
            dict.fromkeys(
                node if rule in READ_OUTPUT else node.all_input_nodes[0]
                for node, rule in known.items()
                if rule in READ_OUTPUT or rule in READ_INPUT
            )
        )
        self._chain = [
            _Link(node.name, node.all_input_nodes[0].name, self.modules[node], sources(node, rule))
            for node, rule in reversed(known.items())
        ]

    def drops_out(self) -> bool:
        """Tell whether dropout is at work in the head, so that its values are not those of the head without it."""
        return any(getattr(m, "p", 0) > 0 and m.training for m in self.modules.values() if isinstance(m, DROPOUT))

    def __call__(
        self, cotangent: Float[Tensor, "n classes"], values: Mapping[str, Tensor], statistics: Statistics
    ) -> Float[Tensor, "n k *s"]:
        """Carry a weight for every logit back to the activations of the cut.

        Args:
            cotangent: For the gradient of one logit: 1 there and 0 elsewhere.
            values: Of the nodes in ``reads``, by name.
            statistics: (mean, variance) of every batch normalisation.
        """
        arrived: dict[str, Tensor] = {self.logits.name: cotangent}
        for link in self._chain:
            step = Step(link.name, link.given, link.module, values, statistics)
            back = self.rules[link.name](step, arrived.pop(link.name))
            for source in link.sources:
                arrived[source] = arrived[source] + back if source in arrived else back
        return arrived[self.cut.name]
