"""What the operations of a traced network do to the values that they are given."""

from __future__ import annotations

import inspect
import operator

from torch import fx, nn

DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity)


def is_in_place(node: fx.Node, network: nn.Module) -> bool:
    """Tell whether an operation overwrites its first input."""
    if node.op == "call_module":
        return bool(getattr(network.get_submodule(str(node.target)), "inplace", False))
    name = str(getattr(node.target, "__name__", node.target))
    if node.target in (operator.iadd, operator.imul) or (name.endswith("_") and not name.endswith("__")):
        return True
    if isinstance(node.target, str):
        return False
    try:
        return bool(inspect.signature(node.target).bind(*node.args, **node.kwargs).arguments.get("inplace"))
    except (TypeError, ValueError):  # builtins have no signature, and no such argument
        return False


def overwritten(graph: fx.Graph, network: nn.Module) -> dict[fx.Node, tuple[fx.Node, ...]]:
    """Find the operations in place, each with the values that it overwrites; who reads those later gets the result.

    The first is what the operation was given; others are those that it may be the very same tensor as, behind an
    identity or a dropout at rest.
    """
    order = {node: i for i, node in enumerate(graph.nodes)}
    found: dict[fx.Node, tuple[fx.Node, ...]] = {}
    for node in graph.nodes:
        if not node.all_input_nodes or not is_in_place(node, network):
            continue
        same = [node.all_input_nodes[0]]
        while same[-1].op == "call_module" and isinstance(network.get_submodule(str(same[-1].target)), DROPOUT):
            same.append(same[-1].all_input_nodes[0])
        found[node] = tuple(same)
        for value in same:
            for later in [user for user in value.users if order[user] > order[node]]:
                later.replace_input_with(value, node)
    return found
