"""Every call of a ReLU as a module of its own, which is what rules that change the backward of a ReLU take hold of.

Guided backpropagation, deconvolution and DeepLIFT hang on modules. A ReLU that is a function is passed by without a
word, one that is called twice mixes up its calls, and one whose input goes elsewhere too would have its rule applied
to the gradient of both ways.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from distill.models.graph import redirect_overwritten_reads

_FUNCTIONS = (F.relu, torch.relu, torch.relu_)
_METHODS = ("relu", "relu_")
_CALLS = (*_FUNCTIONS, *(getattr(Tensor, name) for name in _METHODS))


def separate_relus(network: nn.Module) -> list[str]:
    """Rewrite the forward pass of a network so that every ReLU in it is a module that is called once, not in place.

    Convention:
        - The network is changed: give a copy. Parameters and buffers stay where they are.
        - A part that torch.fx cannot trace runs as it is, with the parts inside it rewritten that can be traced;
          :func:`count_functional_relus` tells how many functions are left in it.

    Returns:
        The classes of parts that run as they are and hold ReLUs.
    """
    graph = _trace(network)
    if graph is None:
        children = list(network.children())
        own = [type(network).__name__] if any(isinstance(child, nn.ReLU) for child in children) else []
        return own + [name for child in children for name in separate_relus(child)]
    redirect_overwritten_reads(graph, network)
    for node in list(graph.nodes):
        if _is_relu(node, network):
            _separate(node, network)
    # The class's own forward stays for whoever traces the class; modules keep their paths.
    network.forward = fx.GraphModule(network, graph).forward
    return []


def count_functional_relus(network: nn.Module, images: Tensor) -> int:
    """Count the ReLUs in a forward pass that are called as functions, outside a module."""
    modules = 0

    def called(module: nn.Module, given: Any) -> None:
        nonlocal modules
        modules += 1

    handles = [m.register_forward_pre_hook(called) for m in network.modules() if isinstance(m, nn.ReLU)]
    try:
        with torch.no_grad(), _Counting() as functions:
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return functions.calls - modules


class _Counting(TorchFunctionMode):
    """Count calls of ReLU as a function; that of a module is one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.calls += func in _CALLS
        return func(*args, **(kwargs or {}))


def _trace(network: nn.Module) -> fx.Graph | None:
    tracer = fx.Tracer()
    if tracer.is_leaf_module(network, "") and not isinstance(network, nn.Sequential):
        return None
    parameters = inspect.signature(network.forward).parameters.values()
    left_out = {p.name: p.default for p in parameters if p.default is not p.empty}
    try:
        return tracer.trace(network, left_out)
    except Exception:  # there are many ways not to be traceable
        return None


def _is_relu(node: fx.Node, network: nn.Module) -> bool:
    if node.op == "call_module":
        return isinstance(network.get_submodule(str(node.target)), nn.ReLU)
    return (node.op == "call_function" and node.target in _FUNCTIONS) or (
        node.op == "call_method" and node.target in _METHODS
    )


def _separate(node: fx.Node, network: nn.Module) -> None:
    graph, given = node.graph, node.all_input_nodes[0]
    path = f"separate_{node.name}"
    network.add_module(path, nn.ReLU().eval())
    with graph.inserting_before(node):
        alone = len(given.users) == 1
        edge = given if alone else graph.call_method("view_as", (given, given))  # the gradient of this way alone
        own = graph.call_module(path, (edge,))
    node.replace_all_uses_with(own)
    graph.erase_node(node)
