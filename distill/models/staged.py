"""`StagedNetwork`: a classifier whose named layers can be read and cut; `StagedHead`: the part that follows a cut."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from distill.models.autocast import AutocastState
from distill.models.graph import NetworkGraph, trace_network
from distill.models.hooked import OTHER_ACTIVATIONS, OTHER_STATISTICS
from distill.models.layouts import LastAxis, last_axis_in_graph, layout_problems
from distill.models.linear_backward import PullBack
from distill.models.pooled_head import PooledClassifier, find_classifiers
from distill.models.shape_reads import is_batch_size
from distill.types import StagedOutput

Statistics: TypeAlias = dict[str, tuple[Tensor, Tensor]]

_ACTIVE_DROPOUT = "the forward pass used dropout in the head, which explanations leave out"


class Cut(NamedTuple):
    """A layer through which every path from the images to the logits passes, and the head that follows it.

    All strings are names of nodes of the traced network; ``layer`` is the node of the cut. ``sizes`` are the sizes that
    the head takes from the forward pass, and whether each is a number of samples.
    """

    layer: str
    head: fx.GraphModule
    classifiers: tuple[PooledClassifier, ...]
    batch_norms: Mapping[str, _BatchNorm]
    batch_norm_inputs: Mapping[str, str]
    pull_back: PullBack
    sizes: Mapping[str, bool]


@dataclass(frozen=True)
class StagedHead:
    """The part of a traced network that follows a cut: a function from activations to logits.

    Convention:
        - :meth:`pull_back` transposes the operations of the forward pass that the head belongs to.
        - Batch normalisation that used batch statistics in the forward pass uses the batch's mean and biased variance
          as constants, so the head processes each sample independently. All others use the running statistics right
          after the forward pass. No gradient flows into the statistics.
        - Later forward passes and changes of mode or autocast do not affect the head; it runs in the precision of its
          forward pass.
        - It implements :class:`distill.types.Head`.
    """

    cut: Cut
    running: Statistics
    batch_inputs: Mapping[str, Tensor]
    values: Mapping[str, Tensor]
    autocast: AutocastState
    known_obstacle: str | None = None

    @classmethod
    def after(cls, cut: Cut, values: Mapping[str, Tensor]) -> StagedHead:
        """Create the head of a cut right after a forward pass with the given recorded values."""
        norms = cut.batch_norms.items()
        running = {
            name: (n.running_mean.clone(), n.running_var.clone())
            for name, n in norms
            if n.running_mean is not None and n.running_var is not None
        }
        inputs = {name: values[cut.batch_norm_inputs[name]] for name, n in norms if n.training or name not in running}
        autocast = AutocastState.capture(values[cut.layer].device.type)
        obstacle = _ACTIVE_DROPOUT if cut.pull_back.has_active_dropout() else None
        return cls(cut, running, inputs, values, autocast, obstacle)

    @property
    def classifier(self) -> nn.Linear | None:
        """The linear layer if the head is global average pooling followed by that layer, else None."""
        shapes = self.values[self.cut.layer].shape, self.logits.shape
        return next((found.linear for found in self.cut.classifiers if found.fits(*shapes)), None)

    @property
    def logits(self) -> Float[Tensor, "n classes"]:
        """The logits of the forward pass."""
        return self.values[self.cut.pull_back.logits.name]

    @property
    def statistics(self) -> Statistics:
        """Mean and variance of each batch normalisation, by the name of its node."""
        running = {name: (_without_inference(m), _without_inference(v)) for name, (m, v) in self.running.items()}
        return running | {
            name: _batch_statistics(x, self.cut.batch_norms[name].eps) for name, x in self.batch_inputs.items()
        }

    def __call__(self, activations: Float[Tensor, "n k *s"]) -> Float[Tensor, "n classes"]:
        """Compute logits from activations of the layer."""
        full = self.values[self.cut.layer]
        sizes = [  # the head may be called with a part of the batch
            len(activations) if is_batch and self.values[name] == len(full) else self.values[name]
            for name, is_batch in self.cut.sizes.items()
        ]
        with self.autocast.restore():
            return self.cut.head(activations, self.statistics, *sizes)

    def with_running_statistics(self) -> StagedHead:
        """Return this head with running instead of batch statistics where the network keeps them."""
        inputs = {name: x for name, x in self.batch_inputs.items() if name not in self.running}
        if len(inputs) == len(self.batch_inputs):
            return self
        return replace(self, batch_inputs=inputs, known_obstacle=OTHER_STATISTICS)

    def obstacle(self, activations: Tensor) -> str | None:
        """Return why :meth:`pull_back` cannot be used for these activations, or None if it can.

        It requires the activations of the forward pass, and a linear backward for every operation of the head.
        """
        if self.values[self.cut.layer] is not activations:
            return OTHER_ACTIVATIONS
        if self.known_obstacle:
            return self.known_obstacle
        unsupported = self.cut.pull_back.unsupported
        return f"no linear backward for {', '.join(dict.fromkeys(unsupported))}" if unsupported else None

    def pull_back(self, cotangent: Float[Tensor, "n classes"]) -> Float[Tensor, "n k *s"]:
        """Return the gradient of ``(cotangent * logits).sum()`` with respect to the activations of the forward pass.

        The result is differentiable where gradients are enabled. It is computed by ordinary forward operations.
        """
        with self.autocast.restore():
            return self.cut.pull_back(cotangent, self.values, self.statistics)


def _without_inference(tensor: Tensor) -> Tensor:
    """Return the tensor, or a copy that autograd can use if it was created in inference mode."""
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():  # torch.compile cannot test for it
        return tensor
    return tensor.clone() if tensor.is_inference() else tensor


def _batch_statistics(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Compute mean and biased variance with the batch normalisation kernel, which needs no copy of half precision."""
    x = x.detach()
    ones = x.new_ones(x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))
    _, mean, inverse_deviation = torch.native_batch_norm(x, ones, None, None, None, True, 0.0, eps)
    return mean, inverse_deviation.pow(-2) - eps


class ModelSpec(NamedTuple):
    """The data needed to rebuild a network; it is saved next to the weights."""

    name: str
    num_classes: int
    in_channels: int = 3
    options: Mapping[str, Any] = {}
    classes: tuple[str, ...] = ()


class Normalise(nn.Module):
    """Subtract a mean and divide by a standard deviation, per channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        """Normalise images, clips or sequences with values in [0, 1]."""
        shape = (-1, *[1] * (images.ndim - 2))
        return (images - self.mean.view(shape)) / self.std.view(shape)


class StagedNetwork(nn.Module):
    """A network with its input normalisation, whose layers can be read and cut.

    Convention:
        - Images are float in [0, 1]. The first layer normalises them by the network's mean and standard deviation.
        - A *cut* is a layer through which every path from the images to the logits passes. A *tap* can be read, but
          has no head.
        - A layer can also be named by the dotted path of a module. Whether it is a cut is then determined from the
          traced network.
        - Reading layers takes one forward pass, and updates batch statistics once.

    Args:
        network: A module from normalised images to logits. Its layers can be read if torch.fx can trace it.
        spec: The data needed to rebuild the network.
        cuts: Dotted path of the module for each named cut.
        taps: Dotted path of the module for each named tap.
        mean: Mean of each channel, for images in [0, 1]; 0 by default.
        std: Standard deviation of each channel, for images in [0, 1]; 1 by default.

    Attributes:
        spec: The data needed to rebuild the network.

    Example:
        >>> from distill.models import create_model
        >>> net = create_model("wrn_10_1", num_classes=10).eval()
        >>> output = net.run(torch.rand(2, 3, 32, 32), ["group2"])
        >>> output.activations["group2"].shape, output.logits.shape
        (torch.Size([2, 32, 16, 16]), torch.Size([2, 10]))
        >>> bool(torch.allclose(output.heads["group2"](output.activations["group2"]), output.logits, atol=1e-5))
        True
    """

    def __init__(
        self,
        network: nn.Module,
        spec: ModelSpec,
        *,
        cuts: Mapping[str, str],
        taps: Mapping[str, str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.normalise = Normalise(mean or [0.0] * spec.in_channels, std or [1.0] * spec.in_channels)
        self.network = network
        self.spec = spec
        self.cuts = dict(cuts)
        self.taps = dict(taps or {})
        self._graphs: dict[bool, NetworkGraph] = {}
        self._plans: dict[tuple[bool, tuple[str, ...]], ReadPlan] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits; their indices if the classes have no names."""
        return self.spec.classes or tuple(str(i) for i in range(self.spec.num_classes))

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Compute the logits."""
        return self.network(self.normalise(images))

    def run(self, images: Float[Tensor, "n c h w"], layers: Sequence[str] = ()) -> StagedOutput:
        """Run one forward pass and read layers from it.

        Args:
            images: Images with values in [0, 1].
            layers: Names of cuts or taps, or dotted paths of modules.

        Returns:
            The logits, the activations of the layers, and the head of each layer that is a cut.

        Raises:
            ValueError: If a layer does not exist.
        """
        if not layers:
            return StagedOutput(self(images))
        self._prepare(tuple(layers))
        return self._plans[self.training, tuple(layers)].run(self.normalise(images))

    def check_layer(self, layer: str) -> None:
        """Raise a ValueError that lists the available layers if the layer does not exist."""
        if (self.cuts | self.taps).get(layer, layer) not in self._traced.paths():
            names = [*self.cuts, *self.taps]
            known = f"one of {', '.join(names)} for {self.spec.name}, or " if names else ""
            near = "" if names else f" of {self.spec.name}, such as {', '.join(self._traced.close_paths(layer))}"
            path = f"the dotted path of a module in its forward pass{near}"
            raise ValueError(f"`layer` must be {known}{path}; got {layer!r}. See `distill list models`.")

    def is_cut(self, layer: str) -> bool:
        """Return whether a layer, which must exist, can be explained by a method that needs gradients."""
        node = self._traced.node((self.cuts | self.taps).get(layer, layer))
        return layer not in self.taps and self._traced.head_nodes(node) is not None

    @property
    def _traced(self) -> NetworkGraph:
        # One graph per mode: operations such as functional dropout differ between the modes.
        if self.training not in self._graphs:
            self._graphs[self.training] = trace_network(self.network, self.spec.name)
        return self._graphs[self.training]

    @torch.compiler.assume_constant_result  # torch.compile calls this method instead of tracing it
    def _prepare(self, layers: tuple[str, ...]) -> None:
        if (self.training, layers) not in self._plans:
            for layer in layers:
                self.check_layer(layer)
            paths = {layer: (self.cuts | self.taps).get(layer, layer) for layer in layers}
            self._plans[self.training, layers] = ReadPlan.make(self._traced, paths, self.taps, self.training)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plans": {}, "_graphs": {}}  # a copy traces the network again when needed


class ReadPlan(NamedTuple):
    """A forward pass that also returns the values needed for a set of layers and their heads."""

    reading: fx.GraphModule
    layers: tuple[str, ...]
    cuts: dict[str, Cut]
    last_axis: dict[str, LastAxis]

    def run(self, *images: Any, **named: Any) -> StagedOutput:
        """Run the forward pass."""
        logits, values = self.reading(*images, **named)
        activations = {name: values[name] for name in self.layers}
        return StagedOutput(
            logits=logits,
            activations=activations,
            not_maps=layout_problems(images[0] if images else None, activations, self.last_axis),
            heads={name: StagedHead.after(cut, values) for name, cut in self.cuts.items()},
        )

    @classmethod
    def make(cls, graph: NetworkGraph, paths: Mapping[str, str], taps: Container[str], training: bool) -> ReadPlan:
        """Build the forward pass for layers: find their nodes, the heads of cuts, and the values to record for them.

        Args:
            graph: The traced network.
            paths: Dotted path of the module for each layer.
            taps: Layers that get no head even if they are cuts.
            training: Whether the network is in training mode.
        """
        nodes = {layer: graph.node(path) for layer, path in paths.items()}
        cuts = {
            layer: _make_cut(graph, node)
            for layer, node in nodes.items()
            if layer not in taps and graph.head_nodes(node) is not None
        }
        read = dict(nodes)
        for layer, cut in cuts.items():
            recorded = [graph.logits, nodes[layer], *cut.pull_back.reads]
            recorded += [
                node.all_input_nodes[0]
                for node in cut.pull_back.nodes
                # the inputs of batch normalisation, if it may use batch statistics
                if node.name in cut.batch_norms and (training or cut.batch_norms[node.name].running_mean is None)
            ]
            read |= {node.name: node for node in recorded}
            read |= {node.name: node for node in graph.graph.nodes if node.name in cut.sizes}
        last_axis = {layer: found for layer, path in paths.items() if (found := last_axis_in_graph(graph, path))}
        return cls(graph.reading(read), tuple(paths), cuts, last_axis)


def _make_cut(graph: NetworkGraph, node: fx.Node) -> Cut:
    pull_back = PullBack(graph, node)
    batch_norms = graph.batch_norms(pull_back.nodes)
    return Cut(
        layer=node.name,
        head=graph.head(node),
        classifiers=find_classifiers(graph, node),
        batch_norms=batch_norms,
        batch_norm_inputs={n.name: n.all_input_nodes[0].name for n in pull_back.nodes if n.name in batch_norms},
        pull_back=pull_back,
        sizes={size.name: is_batch_size(size) for size, recorded in graph.head_sizes(node).items() if recorded},
    )
