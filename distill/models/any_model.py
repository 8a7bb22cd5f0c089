"""Any network of yours behind the interface that reads and cuts layers."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from distill.models.graph import NetworkGraph
from distill.models.hooked import run_hooked
from distill.models.staged import ReadPlan
from distill.types import StagedOutput


class AnyModel(nn.Module):
    """A network as it is, whose modules can be read and, by their dotted path, cut.

    Convention:
        - Where torch.fx can trace the network and the module is a cut, what follows is known: the gradient is read off
          the forward pass, as in :class:`~distill.models.StagedNetwork`. Otherwise the module is read by a temporary
          hook, see :func:`distill.models.hooked.run_hooked`. Both give the same maps.
        - Of a module that is called several times the last call counts.
        - What the network decides in Python without looking at values (``random.random() < p``) is decided once in
          each mode when it is traced; ``trace=False`` runs it as it is.
        - The module that is wrapped stays what it is; its parameters are shared.

    Args:
        network: Any module from what you feed it to logits (N, classes), or to a record with an attribute ``logits``.
        trace: Whether torch.fx may be tried.

    Example:
        >>> from torchvision.models import resnet18
        >>> net = AnyModel(resnet18(num_classes=5).eval())
        >>> output = net.run(torch.rand(2, 3, 64, 64), ["layer3"])
        >>> output.heads["layer3"].obstacle(output.activations["layer3"]) is None
        True
    """

    def __init__(self, network: nn.Module, *, trace: bool = True) -> None:
        super().__init__()
        self.network: nn.Module = getattr(network, "_orig_mod", network)
        self.trace = trace
        self.training = network.training
        self._plans: dict[Any, ReadPlan | None] = {}

    def forward(self, *images: Any, **named: Any) -> Any:
        """Call the network."""
        return self.network(*images, **named)

    def run(self, images: Any, layers: Sequence[str] = ()) -> StagedOutput:
        """Run the network once and read modules on the way.

        Args:
            images: What the network takes: a tensor, a tuple of positional arguments, or a mapping of keywords.
            layers: Dotted paths of modules.

        Raises:
            ValueError: if a module does not exist, is not called or returns no tensor.
        """
        plan = self._plan(tuple(layers)) if layers else None
        if plan is None:
            return run_hooked(self.network, images, layers)
        if isinstance(images, dict):
            return plan.run(**images)
        return plan.run(*images) if isinstance(images, tuple) else plan.run(images)

    def _plan(self, layers: tuple[str, ...]) -> ReadPlan | None:
        """Plan the pass that a traced graph makes; None if there is no graph, or a layer is no cut of it."""
        state = tuple((id(module), module.training) for module in self.network.modules())
        if (state, layers) not in self._plans:
            self._plans[state, layers] = _trace(self.network, layers) if self.trace else None
        return self._plans[state, layers]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plans": {}}


def _trace(network: nn.Module, layers: tuple[str, ...]) -> ReadPlan | None:
    graph = None
    with contextlib.suppress(Exception), torch.inference_mode(False):  # there are many ways not to be traceable
        graph = NetworkGraph(network)
    if graph is None or not isinstance(graph.graph.output_node().args[0], fx.Node):
        return None
    names = dict(network.named_modules())
    if any(layer not in names or layer not in graph.paths() for layer in layers):
        return None
    training = any(module.training for module in network.modules())
    plan = ReadPlan.make(graph, {layer: layer for layer in layers}, (), training)
    return plan if len(plan.cuts) == len(layers) else None


def as_staged(network: nn.Module, *, trace: bool = True) -> AnyModel:
    """Give any module the interface of a staged network.

    Args:
        network: See :class:`AnyModel`.
        trace: Whether torch.fx may be tried.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> as_staged(net).run(torch.rand(1, 3, 5, 5), ["1"]).activations["1"].shape
        torch.Size([1, 4, 3, 3])
    """
    return AnyModel(network, trace=trace)
