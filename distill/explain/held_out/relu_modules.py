"""Rewrite a network so that every call of a ReLU is a separate module.

Guided backpropagation, deconvolution and DeepLIFT replace the gradient of nn.ReLU modules through hooks. Without the
rewriting, a ReLU that is called as a function is silently left out, a module that is called twice mixes up its calls,
and if the input of a ReLU has other users, their gradients are replaced too.
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
    """Rewrite the forward pass of a network so that every ReLU is a module that is called once and not in place.

    Convention:
        - The network is changed in place; pass a copy. Parameters, buffers and existing modules keep their paths.
        - If torch.fx cannot trace a module, its traceable submodules are rewritten instead.
          :func:`count_functional_relus` returns the number of remaining ReLUs that are called as functions.

    Returns:
        The class names of modules that were not rewritten and contain ReLUs.
    """
    graph = _trace(network)
    if graph is None:
        children = list(network.children())
        untraced = [type(network).__name__] if any(isinstance(child, nn.ReLU) for child in children) else []
        return untraced + [name for child in children for name in separate_relus(child)]
    redirect_overwritten_reads(graph, network)
    for node in list(graph.nodes):
        if _is_relu(node, network):
            _separate(node, network)
    network.forward = fx.GraphModule(network, graph).forward  # on the instance only; the class is not changed
    return []


def count_functional_relus(network: nn.Module, images: Tensor) -> int:
    """Return the number of ReLUs in a forward pass that are called as functions instead of modules."""
    module_calls = 0

    def count(module: nn.Module, inputs: Any) -> None:
        nonlocal module_calls
        module_calls += 1

    handles = [m.register_forward_pre_hook(count) for m in network.modules() if isinstance(m, nn.ReLU)]
    try:
        with torch.no_grad(), _Counting() as functions:
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return functions.calls - module_calls


class _Counting(TorchFunctionMode):
    """Count the calls of ReLU functions, including those made by nn.ReLU modules."""

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
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    try:
        return tracer.trace(network, defaults)
    except Exception:  # torch.fx raises many types of exceptions
        return None


def _is_relu(node: fx.Node, network: nn.Module) -> bool:
    if node.op == "call_module":
        return isinstance(network.get_submodule(str(node.target)), nn.ReLU)
    return (node.op == "call_function" and node.target in _FUNCTIONS) or (
        node.op == "call_method" and node.target in _METHODS
    )


def _separate(node: fx.Node, network: nn.Module) -> None:
    graph, source = node.graph, node.all_input_nodes[0]
    path = f"separate_{node.name}"
    network.add_module(path, nn.ReLU().eval())
    with graph.inserting_before(node):
        # A view separates the gradient of this ReLU from those of other users of its input.
        relu_input = source if len(source.users) == 1 else graph.call_method("view_as", (source, source))
        relu = graph.call_module(path, (relu_input,))
    node.replace_all_uses_with(relu)
    graph.erase_node(node)
