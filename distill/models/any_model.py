"""`AnyModel`: read and cut the layers of any module."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from distill.models.graph import NetworkGraph
from distill.models.hooked import run_hooked
from distill.models.read_plan import ReadPlan
from distill.types import StagedOutput


class AnyModel(nn.Module):
    """Wrap any module so that its layers can be read and cut by their dotted path.

    Convention:
        - If torch.fx can trace the network and the layer is a cut, the head is computed from the traced graph, as in
          :class:`~distill.models.StagedNetwork`. Otherwise the layer is read by a temporary hook, see
          :func:`distill.models.hooked.run_hooked`. Both give the same maps.
        - If a module is called more than once, the last call is used.
        - Tracing fixes Python decisions that do not depend on tensor values (``random.random() < p``), once for
          training mode and once for evaluation mode. Use ``trace=False`` to make them in every forward pass.
        - The wrapped module is not changed, and its parameters are shared.

    Args:
        network: Any module that returns logits (N, classes), or an object with an attribute ``logits``.
        trace: Whether to try torch.fx.

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
        """Run one forward pass and read layers from it.

        Args:
            images: Input of the network: a tensor, a tuple of positional arguments, or a dict of keyword arguments.
            layers: Dotted paths of modules.

        Raises:
            ValueError: If a module does not exist, is not called, or does not return a tensor.
        """
        plan = self._plan(tuple(layers)) if layers else None
        if plan is None:
            return run_hooked(self.network, images, layers)
        if isinstance(images, dict):
            return plan.run(**images)
        return plan.run(*images) if isinstance(images, tuple) else plan.run(images)

    def _plan(self, layers: tuple[str, ...]) -> ReadPlan | None:
        """Return the read plan of the traced network, or None if it cannot be traced or a layer is not a cut."""
        state = tuple((id(module), module.training) for module in self.network.modules())
        if (state, layers) not in self._plans:
            self._plans[state, layers] = _trace(self.network, layers) if self.trace else None
        return self._plans[state, layers]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plans": {}}


def _trace(network: nn.Module, layers: tuple[str, ...]) -> ReadPlan | None:
    graph = None
    with contextlib.suppress(Exception), torch.inference_mode(False):  # torch.fx raises many types of exceptions
        graph = NetworkGraph(network)
    if graph is None or not isinstance(graph.graph.output_node().args[0], fx.Node):
        return None
    names = dict(network.named_modules())
    if any(layer not in names or layer not in graph.paths() for layer in layers):
        return None
    if any(graph.head_nodes(graph.node(layer)) is None for layer in layers):
        return None
    training = any(module.training for module in network.modules())
    return ReadPlan.make(graph, {layer: layer for layer in layers}, layers, training)


def as_staged(network: nn.Module, *, trace: bool = True) -> AnyModel:
    """Wrap any module in :class:`AnyModel`, so that its layers can be read and cut.

    Args:
        network: Any module that returns logits (N, classes), or an object with an attribute ``logits``.
        trace: Whether to try torch.fx.

    Returns:
        The wrapped network; it shares the parameters of ``network``.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> as_staged(net).run(torch.rand(1, 3, 5, 5), ["1"]).activations["1"].shape
        torch.Size([1, 4, 3, 3])
    """
    return AnyModel(network, trace=trace)
