"""Which values of a traced network are sizes: they carry no gradient, so no path leads through them."""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import fx, nn

_METHODS = {"size", "dim", "ndimension", "numel", "nelement", "is_floating_point", "get_device", "element_size"}
_ATTRIBUTES = {"shape", "ndim", "dtype", "device", "layout", "is_cuda", "itemsize", "nbytes"}
_MODULES = (operator.__name__, operator.add.__module__, math.__name__, builtins.__name__)


def is_size(node: fx.Node) -> bool:
    """Return whether a value is computed from the shape or type of tensors alone, such as ``x.size(0) * 2``.

    Example:
        >>> class Network(nn.Module):
        ...     def forward(self, x):
        ...         return x.view(x.size(0), -1)
        >>> [(node.name, is_size(node)) for node in fx.symbolic_trace(Network()).graph.nodes][:3]
        [('x', False), ('size', True), ('view', False)]
    """
    if node.op == "call_method" and node.target in _METHODS:
        return True
    if node.op == "call_function" and node.target is getattr and node.args[1] in _ATTRIBUTES:
        return True
    if node.op == "call_function" and node.target is len:
        return True
    calculates = node.op == "call_method" or getattr(node.target, "__module__", None) in _MODULES
    is_call = node.op in ("call_function", "call_method")
    return is_call and calculates and bool(node.all_input_nodes) and all(map(is_size, node.all_input_nodes))


def data_inputs(node: fx.Node) -> list[fx.Node]:
    """Return the inputs of an operation that are no sizes."""
    return [before for before in node.all_input_nodes if not is_size(before)]


def is_batch_size(node: fx.Node) -> bool:
    """Return whether a value is the size of a tensor's first axis."""
    if node.op == "call_method" and node.target == "size":
        return [*node.args[1:], *node.kwargs.values()] == [0]
    if node.target is len:
        return True
    shape = node.args[0] if node.target is operator.getitem and node.args[1] == 0 else None
    if not isinstance(shape, fx.Node):
        return False
    return (shape.target == "size" and len(shape.args) == 1) or shape.args[1:] == ("shape",)


@contextmanager
def traceable_len(network: nn.Module) -> Iterator[None]:
    """Let torch.fx record ``len(x)`` in the modules of a network, as it records ``x.size(0)``."""
    patched: list[dict[str, Any]] = []
    try:
        for module in network.modules():
            space = getattr(type(module).forward, "__globals__", None)
            if space is not None and "len" not in space and not type(module).__module__.startswith("torch.nn."):
                space["len"] = _recorded_len
                patched.append(space)
        yield
    finally:
        for space in patched:
            del space["len"]


def _recorded_len(value: Any) -> Any:
    return value.tracer.create_proxy("call_function", len, (value,), {}) if isinstance(value, fx.Proxy) else len(value)
