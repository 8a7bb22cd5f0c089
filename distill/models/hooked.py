"""Read the layers of any network through temporary forward hooks.

The only requirement is that the named module is called in the forward pass. The network may branch on values, take
several inputs, or work in place. The operations after the module are unknown, so autograd computes the gradient.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map_only

from distill.maps import at_least_float32
from distill.models.autocast import AutocastState
from distill.models.calls import call_network, read_again, read_logits, uncompiled
from distill.models.layout_finder import LayoutFinder, returns_channels_first
from distill.types import StagedOutput

Statistics: TypeAlias = dict[_BatchNorm, list[tuple[Tensor, Tensor]]]

#: Why a head cannot use the gradient of its forward pass.
OTHER_ACTIVATIONS = "these activations are not those of the forward pass"
OTHER_STATISTICS = "the forward pass used different batch statistics"


@dataclass(frozen=True)
class Call:
    """The last call of a module in a forward pass, and the edge of its output in the autograd graph."""

    network: nn.Module
    module: nn.Module
    layer: str
    number: int
    inputs: Any
    edge: GradientEdge
    autocast: AutocastState


@dataclass(frozen=True, repr=False)
class HookedHead:
    """The part of a network that follows the last call of a module: a function from activations to logits.

    Convention:
        - :meth:`pull_back` differentiates the forward pass that the head belongs to.
        - Calling the head runs the current network again in evaluation mode, with the activations in place of the
          module's output. Batch normalisation that used batch statistics in the forward pass uses the batch's mean
          and biased variance as constants, so the head processes each sample independently.
        - It implements :class:`distill.types.Head`.
    """

    call: Call
    activations: Tensor
    logits: Tensor
    statistics: Statistics = field(default_factory=dict)
    running: Statistics = field(default_factory=dict)
    known_obstacle: str | None = None

    @property
    def classifier(self) -> nn.Linear | None:
        """The linear layer if the head is global average pooling followed by that layer, else None.

        Always None here, because the operations of the head are unknown.
        """
        return None

    @property
    def has_dropout(self) -> bool:
        """Whether the forward pass used dropout in the head; then the gradient is computed by a second pass anyway."""
        return False

    def obstacle(self, activations: Tensor) -> str | None:
        """Return why :meth:`pull_back` cannot be used for these activations, or None if it can."""
        return OTHER_ACTIVATIONS if activations is not self.activations else self.known_obstacle

    def pull_back(self, cotangent: Float[Tensor, "n classes"]) -> Float[Tensor, "n k *s"]:
        """Return the gradient of ``(cotangent * logits).sum()`` with respect to the activations of the forward pass.

        The result is differentiable where gradients are enabled.

        Raises:
            ValueError: If the logits do not depend on the layer.
        """
        create_graph = torch.is_grad_enabled()
        gradient = None
        with torch.inference_mode(False):
            cotangent = cotangent.clone() if cotangent.is_inference() else cotangent
            if self.logits.requires_grad:
                (gradient,) = torch.autograd.grad(
                    self.logits,
                    self.call.edge,
                    cotangent,
                    retain_graph=True,
                    create_graph=create_graph,
                    allow_unused=True,
                )
        if gradient is None:
            raise ValueError(
                f"the logits do not depend on `layer` {self.call.layer!r}: its output is not used after its last call, "
                "is detached, or lies in `checkpoint(..., use_reentrant=True)`. Explain another layer, or use "
                "`use_reentrant=False`."
            )
        return gradient

    def with_running_statistics(self) -> HookedHead:
        """Return this head with running instead of batch statistics where the network keeps them."""
        if not self.running:
            return self
        return replace(self, statistics=self.statistics | self.running, running={}, known_obstacle=OTHER_STATISTICS)

    def __call__(self, activations: Float[Tensor, "n k *s"]) -> Float[Tensor, "n classes"]:
        """Compute logits from activations of the layer."""
        network, calls = self.call.network, 0

        def substitute(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            if calls < self.call.number:
                return output
            if any(output is value for value in inputs):  # in place: later reads of the input must see the new values
                return output.detach_().copy_(activations)
            return activations.clone()  # later operations may overwrite it

        devices = {p.device for p in network.parameters() if p.is_cuda}
        with (
            torch.random.fork_rng(devices=list(devices)),
            uncompiled(network),
            _constants(network, self.statistics),
            self.call.autocast.restore(),
        ):
            handle = self.call.module.register_forward_hook(substitute)
            try:
                return read_logits(call_network(network, tree_map_only(Tensor, torch.clone, self.call.inputs)))
            finally:
                handle.remove()


@contextmanager
def _constants(network: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Put a network temporarily in evaluation mode, with given statistics in batch normalisation."""
    modes = [(module, module.training) for module in network.modules()]
    buffers = [(module, dict(module._buffers)) for module in statistics]
    handles = []

    def install(values: list[tuple[Tensor, Tensor]]) -> Callable[..., None]:
        per_call = iter(values)

        def hook(module: nn.Module, inputs: Any) -> None:
            module._buffers["running_mean"], module._buffers["running_var"] = next(per_call)

        return hook

    try:
        for module, _ in modes:
            module.training = False
        handles += [module.register_forward_pre_hook(install(values)) for module, values in statistics.items()]
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
        for module, original in buffers:
            module._buffers.update(original)


_TRAINING = "the network is in training mode, so dropout and batch statistics are held fixed"


def run_hooked(network: nn.Module, images: Any, layers: Sequence[str] | Mapping[str, str]) -> StagedOutput:
    """Run one forward pass and read layers from it through temporary hooks.

    Convention:
        - A layer is the dotted path of a module that returns one tensor. If a module is called more than once, the
          last call is used.
        - A layer does not have to be a cut. Values on paths that bypass it are constants, as in any partial gradient.
        - In evaluation mode, the gradient is computed through this forward pass. If any module is in training mode or
          normalises with batch statistics, the gradient is computed through a second forward pass in evaluation mode,
          with the batch statistics of the first one as constants. So no map depends on the other samples.
        - The forward pass updates batch statistics and the random state like any call of the network. All hooks are
          removed afterwards, also after an error. Under ``no_grad`` or ``inference_mode``, the returned tensors have
          no graph, but can still be explained.
        - Checkpointed segments (``use_reentrant=False``) work in evaluation mode. In training mode, the second pass
          cannot be recomputed after its modes were restored, and torch raises a CheckpointError in ``backward``. Use
          :func:`distill.models.as_staged` for such a network: it runs the segments without checkpointing.
        - Modules compiled by ``torch.compile`` run without compilation, because hooks require it.

    Args:
        network: A module that returns logits (N, classes), or an object with an attribute ``logits``.
        images: Input of the network: a tensor, a tuple of positional arguments, or a mapping of keyword arguments.
        layers: Dotted paths of modules; or names of layers, with the dotted path of each.

    Returns:
        The logits, and the activations and the head of each layer.

    Raises:
        ValueError: If a module does not exist, is not called or does not return one tensor, or if the network does not
            return logits.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(16, 2)).eval()
        >>> output = run_hooked(network, torch.rand(5, 3, 4, 4), ["1"])
        >>> output.heads["1"].pull_back(torch.ones(5, 2)).shape
        torch.Size([5, 4, 2, 2])
    """
    network = getattr(network, "_orig_mod", network)
    paths = layers if isinstance(layers, Mapping) else {layer: layer for layer in layers}
    modules = {layer: _find(network, path) for layer, path in paths.items()}
    keep_graph = torch.is_grad_enabled()
    outputs = {layer: _Output() for layer in layers}
    statistics: Statistics = {}
    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as hooks:
        hooks.enter_context(uncompiled(network))
        inputs = tree_map_only(Tensor, _copy_with_graph, images)
        for layer, module in modules.items():
            hooks.enter_context(module.register_forward_hook(_record_output(layer, outputs[layer])))
        for module in network.modules():
            if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
                hook = _record_statistics(statistics.setdefault(module, []))
                hooks.enter_context(module.register_forward_pre_hook(hook, with_kwargs=True))
        logits = read_logits(call_network(network, inputs))
    heads = {}
    activations = {}
    running = {
        module: [(module.running_mean.clone(), module.running_var.clone())] * len(values)
        for module, values in statistics.items()
        if module.running_mean is not None and module.running_var is not None
    }
    known_obstacle = _TRAINING if statistics or any(module.training for module in network.modules()) else None
    autocast = AutocastState.capture(logits.device.type)
    for layer, output in outputs.items():
        if output.values is None or output.edge is None:
            raise ValueError(f"`layer` {layer!r} is not called in the forward pass of {type(network).__name__}.")
        activations[layer] = output.values if keep_graph else output.values.detach()
        call = Call(network, modules[layer], layer, output.calls, inputs, output.edge, autocast)
        heads[layer] = HookedHead(call, activations[layer], logits, statistics, running, known_obstacle)
    tensors = [leaf for leaf in tree_leaves(images) if isinstance(leaf, Tensor)]
    layouts = {
        layer: LayoutFinder(paths[layer], network, functools.partial(read_again, network, module, images))
        for layer, module in modules.items()
        if not returns_channels_first(module)
    }
    shape = tuple(tensors[0].shape) if len(tensors) == 1 else ()
    return StagedOutput(logits if keep_graph else logits.detach(), activations, heads, layouts, shape)


@dataclass
class _Output:
    """The last output of a module: a copy of the values, and its edge in the graph, which cannot be overwritten."""

    calls: int = 0
    values: Tensor | None = None
    edge: GradientEdge | None = None


def _find(network: nn.Module, layer: str) -> nn.Module:
    modules = dict(network.named_modules(remove_duplicate=False))
    if layer and layer in modules:
        return modules[layer]
    names = [name for name in modules if name]
    close_matches = difflib.get_close_matches(layer, names, n=3, cutoff=0.4) or names[:3]
    raise ValueError(
        f"`layer` must be the dotted path of a module of {type(network).__name__}, got {layer!r}; "
        f"the closest are {', '.join(map(repr, close_matches))}. `named_modules()` lists all."
    )


def _copy_with_graph(tensor: Tensor) -> Tensor:
    """Copy an input, so that everything computed from it has a graph, even if all parameters are frozen."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return tensor.clone()
    return tensor + torch.zeros((), dtype=tensor.dtype, device=tensor.device, requires_grad=True)


def _record_output(layer: str, record: _Output) -> Callable[..., Tensor]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor:
        if not (isinstance(output, Tensor) and output.is_floating_point()):
            raise ValueError(
                f"`layer` {layer!r} must return one floating-point tensor, but it returns {type(output).__name__}; "
                "name a module inside or after it."
            )
        starts_graph = not output.requires_grad
        if starts_graph:
            output = output.detach().requires_grad_()
        record.calls, record.values, record.edge = record.calls + 1, output.clone(), get_gradient_edge(output)
        return output.clone() if starts_graph else output

    return hook


def _record_statistics(record: list[tuple[Tensor, Tensor]]) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        values = at_least_float32(next(iter(tree_leaves((inputs, dict(keywords))))).detach())
        variance, mean = torch.var_mean(values, [0, *range(2, values.ndim)], correction=0)
        record.append((mean, variance))

    return hook


@runtime_checkable
class Readable(Protocol):
    """A network whose layers can be read in one forward pass."""

    def run(self, images: Tensor, layers: Sequence[str] = ()) -> StagedOutput:
        """Run one forward pass and read layers from it."""


def read_layers(model: Readable | nn.Module, images: Any, layers: Sequence[str]) -> StagedOutput:
    """Run one forward pass and read layers from it, by the network's method ``run`` if it has one, else by hooks."""
    return model.run(images, layers) if isinstance(model, Readable) else run_hooked(model, images, layers)
