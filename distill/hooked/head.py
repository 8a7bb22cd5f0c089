"""What follows a module, without knowing what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map_only

from distill.autocast import Autocast
from distill.hooked.calling import call_network, read_logits, uncompiled

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
    autocast: Autocast


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
    hindrance: str | None = None

    @property
    def classifier(self) -> nn.Linear | None:
        """None: what follows the module is not known."""
        return None

    def opaque(self, activations: Tensor) -> str | None:
        """Say what hinders :meth:`pull_back`, if anything does."""
        return _OTHER_ACTIVATIONS if activations is not self.activations else self.hindrance

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
        return replace(self, statistics=self.statistics | self.running, running={}, hindrance=_OTHER_STATISTICS)

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
            self.call.autocast.again(),
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
