"""What an operation of a traced network is."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import fx, nn

_SPATIAL = {(-1,), (2,), (-2, -1), (2, 3), (-3, -2, -1), (2, 3, 4)}


def spatial_axes(node: fx.Node, network: nn.Module) -> int | None:
    """Count the spatial axes of what an operation is given, from the nearest layer before it that tells."""
    frontier = [*node.all_input_nodes]
    for before in frontier:
        if before.op == "call_module":
            kinds = type(network.get_submodule(str(before.target))).__mro__
            told = next((m for kind in kinds if (m := re.search(r"([123])d$", kind.__name__))), None)
            if told:
                return int(told[1])
        frontier += [n for n in before.all_input_nodes if n not in frontier]
    return None


def is_global_pooling(node: fx.Node, module: nn.Module | None, axes: int | None) -> bool:
    """Tell whether an operation takes the mean over all sites of every channel, of which there are so many axes."""
    if isinstance(module, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d | nn.AdaptiveAvgPool3d):
        size = module.output_size
        return size == 1 or (isinstance(size, tuple) and all(s == 1 for s in size))
    if node.op == "call_function" and node.target is F.adaptive_avg_pool2d:
        return node.args[1] in (1, (1, 1))
    if (node.op, node.target) in {("call_method", "mean"), ("call_function", torch.mean)}:
        over = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        over = tuple(over) if isinstance(over, tuple | list) else (over,)
        return over in _SPATIAL and len(over) == axes
    return False


def is_flatten(node: fx.Node, module: nn.Module | None) -> bool:
    """Tell whether an operation puts channels and sites on one axis."""
    if isinstance(module, nn.Flatten):
        return True
    return (node.op, node.target) in {("call_method", "flatten"), ("call_function", torch.flatten)}
