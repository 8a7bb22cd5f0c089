"""One forward pass with temporary hooks."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map_only

from distill.autocast import Autocast
from distill.hooked.calling import call_network, read_logits, uncompiled
from distill.hooked.head import Call, HookedHead, Statistics
from distill.types import StagedOutput

_TRAINS = "the network trains, so dropout and batch statistics are held fixed"


def run_hooked(network: nn.Module, images: Any, layers: Sequence[str]) -> StagedOutput:
    """Run a network once and read modules on the way.

    Convention:
        - A layer is the dotted path of a module that returns one tensor; of several calls the last one counts.
        - A layer need not be a cut: what goes around it is a constant, as it is for any gradient.
        - In evaluation the gradient is taken through this very pass. While any part of the network trains, or
          normalises by the batch, it is taken through a second pass that is in evaluation mode and has the batch
          statistics of the first as constants: no map depends on its neighbours.
        - The pass is an ordinary one: it leaves batch statistics and random state as a call of the network would.
          Every hook is gone afterwards, whatever happens. Under ``no_grad`` or ``inference_mode`` what is returned has
          no graph, and can be explained nevertheless.
        - Checkpointed segments (``use_reentrant=False``) work in evaluation. While the network trains, the second pass
          cannot be computed again once its modes are restored: torch raises a CheckpointError in ``backward``; read
          such a network by :func:`distill.models.as_staged`, which runs the segments without the checkpoint.
        - A module under ``torch.compile`` runs uncompiled, as hooks need.

    Args:
        network: Returns logits (N, classes), or a record with an attribute ``logits``.
        images: What it takes: a tensor, a tuple of positional arguments, or a mapping of keyword arguments.
        layers: The paths.

    Raises:
        ValueError: if a module does not exist, is not called or returns no tensor, or the network returns no logits.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(16, 2)).eval()
        >>> output = run_hooked(network, torch.rand(5, 3, 4, 4), ["1"])
        >>> output.heads["1"].pull_back(torch.ones(5, 2)).shape
        torch.Size([5, 4, 2, 2])
    """
    network = getattr(network, "_orig_mod", network)
    modules = {layer: _find(network, layer) for layer in layers}
    wanted = torch.is_grad_enabled()
    seen = {layer: _Output() for layer in layers}
    statistics: Statistics = {}
    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as hooks:
        hooks.enter_context(uncompiled(network))
        inputs = tree_map_only(Tensor, _on_a_graph, images)
        for layer, module in modules.items():
            hooks.enter_context(module.register_forward_hook(_keep(layer, seen[layer])))
        for module in network.modules():
            if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
                note = _note(statistics.setdefault(module, []))
                hooks.enter_context(module.register_forward_pre_hook(note, with_kwargs=True))
        logits = read_logits(call_network(network, inputs))
    heads = {}
    activations = {}
    running = {
        module: [(module.running_mean.clone(), module.running_var.clone())] * len(values)
        for module, values in statistics.items()
        if module.running_mean is not None and module.running_var is not None
    }
    hindrance = _TRAINS if statistics or any(module.training for module in network.modules()) else None
    autocast = Autocast.now(logits.device.type)
    for layer, output in seen.items():
        if output.values is None or output.edge is None:
            raise ValueError(f"`layer` {layer!r} is not called in the forward pass of {_name(network)}.")
        activations[layer] = output.values if wanted else output.values.detach()
        call = Call(network, modules[layer], layer, output.calls, inputs, output.edge, autocast)
        heads[layer] = HookedHead(call, activations[layer], logits, statistics, running, hindrance)
    return StagedOutput(logits if wanted else logits.detach(), activations, heads)


@dataclass
class _Output:
    """What a module returned last: a copy of the values, and the edge of the graph, which nothing can overwrite."""

    calls: int = 0
    values: Tensor | None = None
    edge: GradientEdge | None = None


def _find(network: nn.Module, layer: str) -> nn.Module:
    modules = dict(network.named_modules(remove_duplicate=False))
    if layer and layer in modules:
        return modules[layer]
    names = [name for name in modules if name]
    near = difflib.get_close_matches(layer, names, n=3, cutoff=0.4) or names[:3]
    raise ValueError(
        f"`layer` must be the dotted path of a module of {_name(network)}, got {layer!r}; "
        f"the nearest are {', '.join(map(repr, near))}. `named_modules()` lists all."
    )


def _name(network: nn.Module) -> str:
    return type(network).__name__


def _on_a_graph(tensor: Tensor) -> Tensor:
    """Copy an input, so that all that is computed from it has a graph, frozen parameters or not."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return tensor.clone()
    return tensor + torch.zeros((), dtype=tensor.dtype, device=tensor.device, requires_grad=True)


def _keep(layer: str, into: _Output) -> Callable[..., Tensor]:
    def hook(module: nn.Module, given: tuple[Any, ...], output: Any) -> Tensor:
        if not (isinstance(output, Tensor) and output.is_floating_point()):
            raise ValueError(
                f"`layer` {layer!r} must return one tensor of floats, it returns {type(output).__name__}; "
                "name a module inside or after it."
            )
        begins = not output.requires_grad
        if begins:
            output = output.detach().requires_grad_()
        into.calls, into.values, into.edge = into.calls + 1, output.clone(), get_gradient_edge(output)
        return output.clone() if begins else output

    return hook


def _note(into: list[tuple[Tensor, Tensor]]) -> Callable[..., None]:
    def hook(module: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        values = next(iter(tree_leaves((given, dict(named))))).detach()
        values = values if values.dtype == torch.float64 else values.float()
        variance, mean = torch.var_mean(values, [0, *range(2, values.ndim)], correction=0)
        into.append((mean, variance))

    return hook
