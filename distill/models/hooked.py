"""Read the layers of any network through temporary forward hooks.

The only requirement is that the named module is called in the forward pass: it may branch on values, take several
inputs, or work in place. Nothing is known about what follows the module, so its gradient is left to autograd.
"""

from __future__ import annotations

import difflib
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

from distill.models.autocast import AutocastState
from distill.types import StagedOutput


def call_network(network: nn.Module, inputs: Any) -> Any:
    """Hand on inputs: a tuple by position, a mapping by name."""
    if isinstance(inputs, Mapping):
        return network(**inputs)
    return network(*inputs) if isinstance(inputs, tuple) else network(inputs)


def read_logits(output: Any) -> Tensor:
    """Find the logits in what a network returned.

    Raises:
        ValueError: if there are none.
    """
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ValueError(
            "a network must return logits (samples, classes) or a record with an attribute `logits`, got "
            f"{tuple(logits.shape) if isinstance(logits, Tensor) else type(output).__name__}; wrap it in a module that "
            "returns what is to be explained."
        )
    return logits


@contextmanager
def uncompiled(network: nn.Module) -> Iterator[None]:
    """Run modules that were compiled as they were written."""
    if any(getattr(m, "_compiled_call_impl", None) or hasattr(m, "_orig_mod") for m in network.modules()):
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield


Statistics: TypeAlias = dict[_BatchNorm, list[tuple[Tensor, Tensor]]]

_OTHER_ACTIVATIONS = "these are other activations than those of the forward pass"
_OTHER_STATISTICS = "the forward pass had other batch statistics"


@dataclass(frozen=True)
class Call:
    """The last call of a module in a pass, and where in the graph its output stands."""

    network: nn.Module
    module: nn.Module
    layer: str
    number: int
    inputs: Any
    edge: GradientEdge
    autocast: AutocastState


@dataclass(frozen=True, repr=False)
class HookedHead:
    """What a network computes after the last call of a module.

    Convention:
        - Given the activations of the pass it belongs to, the pass itself is differentiated.
        - Given others, the network runs again as it is now, in evaluation mode, with these in the place of the
          module's output. What normalised by the batch in the pass uses the batch's mean and biased variance.
    """

    call: Call
    activations: Tensor
    logits: Tensor
    statistics: Statistics = field(default_factory=dict)
    running: Statistics = field(default_factory=dict)
    known_obstacle: str | None = None

    @property
    def classifier(self) -> nn.Linear | None:
        """None: what follows the module is not known."""
        return None

    def obstacle(self, activations: Tensor) -> str | None:
        """Say what hinders :meth:`pull_back`, if anything does."""
        return _OTHER_ACTIVATIONS if activations is not self.activations else self.known_obstacle

    def pull_back(self, cotangent: Float[Tensor, "n classes"]) -> Float[Tensor, "n k *s"]:
        """Differentiate the pass that was made; the result is differentiable where gradients are enabled.

        Raises:
            ValueError: if the logits do not depend on the layer.
        """
        create_graph = torch.is_grad_enabled()
        found = None
        with torch.inference_mode(False):
            cotangent = cotangent.clone() if cotangent.is_inference() else cotangent
            if self.logits.requires_grad:
                (found,) = torch.autograd.grad(
                    self.logits,
                    self.call.edge,
                    cotangent,
                    retain_graph=True,
                    create_graph=create_graph,
                    allow_unused=True,
                )
        if found is None:
            raise ValueError(
                f"the logits do not depend on `layer` {self.call.layer!r}: its output is not used after its last call, "
                "is detached, or lies in `checkpoint(..., use_reentrant=True)`; explain another layer, or use "
                "`use_reentrant=False`."
            )
        return found

    def with_running_statistics(self) -> HookedHead:
        """Give the same head with the running statistics right after the pass, where there are any."""
        if not self.running:
            return self
        return replace(self, statistics=self.statistics | self.running, running={}, known_obstacle=_OTHER_STATISTICS)

    def __call__(self, activations: Float[Tensor, "n k *s"]) -> Float[Tensor, "n classes"]:
        """Run the network again with activations in the place of the module's last output."""
        network, calls = self.call.network, 0

        def substitute(module: nn.Module, given: tuple[Any, ...], output: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            if calls < self.call.number:
                return output
            if any(output is value for value in given):  # in place: who holds the input must see it change
                return output.detach_().copy_(activations)
            return activations.clone()  # what follows may overwrite it

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
    """Put a network in evaluation mode for a while, with given statistics where it normalised by the batch."""
    modes = [(module, module.training) for module in network.modules()]
    buffers = [(module, dict(module._buffers)) for module in statistics]
    handles = []

    def install(values: list[tuple[Tensor, Tensor]]) -> Callable[..., None]:
        following = iter(values)

        def hook(module: nn.Module, given: Any) -> None:
            module._buffers["running_mean"], module._buffers["running_var"] = next(following)

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
        for module, kept in buffers:
            module._buffers.update(kept)


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
    known_obstacle = _TRAINS if statistics or any(module.training for module in network.modules()) else None
    autocast = AutocastState.capture(logits.device.type)
    for layer, output in seen.items():
        if output.values is None or output.edge is None:
            raise ValueError(f"`layer` {layer!r} is not called in the forward pass of {_name(network)}.")
        activations[layer] = output.values if wanted else output.values.detach()
        call = Call(network, modules[layer], layer, output.calls, inputs, output.edge, autocast)
        heads[layer] = HookedHead(call, activations[layer], logits, statistics, running, known_obstacle)
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


@runtime_checkable
class Readable(Protocol):
    """A network whose layers can be read in one forward pass."""

    def run(self, images: Tensor, layers: Sequence[str] = ()) -> StagedOutput:
        """Compute the logits and read layers on the way."""


def read_layers(model: Readable | nn.Module, images: Any, layers: Sequence[str]) -> StagedOutput:
    """Run a network once and read layers on the way: by itself if it can, else by temporary hooks."""
    return model.run(images, layers) if isinstance(model, Readable) else run_hooked(model, images, layers)
