"""`StagedNetwork`: a classifier whose named layers can be read and cut, and the head that follows each cut."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from distill.models.autocast import AutocastState
from distill.models.graph import NetworkGraph
from distill.models.linear_backward import PullBack
from distill.types import StagedOutput

Statistics: TypeAlias = dict[str, tuple[Tensor, Tensor]]


_DROPPED_OUT = "dropout in the head, which an explanation leaves out, changed the forward pass"
_OTHER_STATISTICS = "the forward pass had other batch statistics"


class Cut(NamedTuple):
    """A layer that everything after it depends on alone, and what comes after.

    ``batch_norms`` and all values of a forward pass go by the names of nodes; ``layer`` is the cut's own.
    """

    layer: str
    head: fx.GraphModule
    classifier: nn.Linear | None
    batch_norms: Mapping[str, _BatchNorm]
    batch_norm_inputs: Mapping[str, str]
    pull_back: PullBack


@dataclass(frozen=True)
class StagedHead:
    """What follows a cut, with batch normalisation as the constants of the pass that it belongs to.

    Convention:
        - What normalised by the batch in that pass uses the batch's mean and biased variance, the rest the running
          statistics as they were right after it. No gradient flows into either.
        - Neither the mode of the network nor later passes change it, nor whether it is asked under autocast: it runs in
          the precision of its pass.
    """

    cut: Cut
    running: Statistics
    batch_inputs: Mapping[str, Tensor]
    values: Mapping[str, Tensor]
    autocast: AutocastState
    known_obstacle: str | None = None

    @classmethod
    def after(cls, cut: Cut, values: Mapping[str, Tensor]) -> StagedHead:
        """Keep what a pass that was just made left."""
        norms = cut.batch_norms.items()
        running = {
            name: (n.running_mean.clone(), n.running_var.clone())
            for name, n in norms
            if n.running_mean is not None and n.running_var is not None
        }
        inputs = {name: values[cut.batch_norm_inputs[name]] for name, n in norms if n.training or name not in running}
        autocast = AutocastState.capture(values[cut.layer].device.type)
        return cls(cut, running, inputs, values, autocast, _DROPPED_OUT if cut.pull_back.drops_out() else None)

    @property
    def classifier(self) -> nn.Linear | None:
        """The linear layer, where the head is nothing but global average pooling and that layer; else None."""
        return self.cut.classifier

    @property
    def logits(self) -> Float[Tensor, "n classes"]:
        """What the forward pass returned."""
        return self.values[self.cut.pull_back.logits.name]

    @property
    def statistics(self) -> Statistics:
        """Mean and variance of every batch normalisation, by the name of its node."""
        running = {name: (_usable(mean), _usable(variance)) for name, (mean, variance) in self.running.items()}
        return running | {
            name: _of_batch(given, self.cut.batch_norms[name].eps) for name, given in self.batch_inputs.items()
        }

    def __call__(self, activations: Float[Tensor, "n k *s"]) -> Float[Tensor, "n classes"]:
        """Carry activations of the layer on to the logits."""
        with self.autocast.restore():
            return self.cut.head(activations, self.statistics)

    def with_running_statistics(self) -> StagedHead:
        """Give the same head with the running statistics, where there are any."""
        inputs = {name: given for name, given in self.batch_inputs.items() if name not in self.running}
        if len(inputs) == len(self.batch_inputs):
            return self
        return replace(self, batch_inputs=inputs, known_obstacle=_OTHER_STATISTICS)

    def obstacle(self, activations: Tensor) -> str | None:
        """Say what hinders :meth:`pull_back`, if anything does.

        It belongs to the very activations of the pass, and needs a rule for every operation.
        """
        if self.values[self.cut.layer] is not activations:
            return "these are other activations than those of the forward pass"
        if self.known_obstacle:
            return self.known_obstacle
        unknown = self.cut.pull_back.unsupported
        return f"no linear backward for {', '.join(dict.fromkeys(unknown))}" if unknown else None

    def pull_back(self, cotangent: Float[Tensor, "n classes"]) -> Float[Tensor, "n k *s"]:
        """Carry a weight for every logit back to the activations, by ordinary forward operations."""
        with self.autocast.restore():
            return self.cut.pull_back(cotangent, self.values, self.statistics)


def _usable(tensor: Tensor) -> Tensor:
    """Make what a pass in inference mode left fit for a graph outside of it."""
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():  # a compiler cannot ask, and need not
        return tensor
    return tensor.clone() if tensor.is_inference() else tensor


def _of_batch(given: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and biased variance, out of the kernel that normalises: it reads half precision without a copy."""
    given = given.detach()
    ones = given.new_ones(given.shape[1], dtype=torch.promote_types(given.dtype, torch.float32))
    _, mean, inverse_deviation = torch.native_batch_norm(given, ones, None, None, None, True, 0.0, eps)
    return mean, inverse_deviation.pow(-2) - eps


class ModelSpec(NamedTuple):
    """What is needed to build a network again: goes beside its weights."""

    name: str
    num_classes: int
    in_channels: int = 3
    options: Mapping[str, Any] = {}
    classes: tuple[str, ...] = ()


class Normalise(nn.Module):
    """Subtract the mean and divide by the standard deviation of the images that a network was trained on."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        """Scale images, clips or sequences in [0, 1]."""
        shape = (-1, *[1] * (images.ndim - 2))
        return (images - self.mean.view(shape)) / self.std.view(shape)


class StagedNetwork(nn.Module):
    """A network with its input normalisation, whose inner layers can be read and cut.

    Convention:
        - Images come as float in [0, 1]; the network's own mean and standard deviation are its first layer.
        - A *cut* is a layer that everything after it depends on alone; a *tap* can be read but has no head.
        - A layer may also be named by the dotted path of a module; whether it is a cut is then found out.
        - A forward pass that reads layers is one pass: batch statistics are updated once.

    Args:
        network: Normalised images to logits; traceable by torch.fx.
        spec: How it was made.
        cuts: Name of a layer -> dotted path of the module whose output it is.
        taps: The same for layers that are only read.

    Attributes:
        spec: The record that lies beside its weights.

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
        """Names of the classes, in the order of the logits."""
        return self.spec.classes or tuple(str(i) for i in range(self.spec.num_classes))

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Compute the logits."""
        return self.network(self.normalise(images))

    def run(self, images: Float[Tensor, "n c h w"], layers: Sequence[str] = ()) -> StagedOutput:
        """Compute the logits and read layers on the way.

        Args:
            images: Float in [0, 1].
            layers: Names out of ``cuts`` and ``taps``.

        Returns:
            Logits, activations of the layers, and the head of each that is a cut.

        Raises:
            ValueError: if a layer does not exist.
        """
        if not layers:
            return StagedOutput(self(images))
        self._prepare(tuple(layers))
        return self._plans[self.training, tuple(layers)].run(self.normalise(images))

    def check_layer(self, layer: str) -> None:
        """Raise a ValueError that names the layers there are, unless this is one of them."""
        if (self.cuts | self.taps).get(layer, layer) not in self._traced.paths():
            names = [*self.cuts, *self.taps]
            raise ValueError(
                f"`layer` must be one of {', '.join(names)} for {self.spec.name}, or the dotted path of a module "
                f"in its forward pass; got {layer!r}. See `distill list models`."
            )

    @property
    def _traced(self) -> NetworkGraph:
        # Once in each mode: functional dropout and the like are traced as they are in that mode.
        if self.training not in self._graphs:
            self._graphs[self.training] = NetworkGraph(self.network)
        return self._graphs[self.training]

    @torch.compiler.assume_constant_result  # a compiler calls it instead of following it
    def _prepare(self, layers: tuple[str, ...]) -> None:
        if (self.training, layers) not in self._plans:
            for layer in layers:
                self.check_layer(layer)
            paths = {layer: (self.cuts | self.taps).get(layer, layer) for layer in layers}
            self._plans[self.training, layers] = ReadPlan.make(self._traced, paths, self.taps, self.training)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plans": {}, "_graphs": {}}  # traced graphs are made again where they are needed


class ReadPlan(NamedTuple):
    """How to read some layers in one forward pass."""

    reading: fx.GraphModule
    layers: tuple[str, ...]
    cuts: dict[str, Cut]

    def run(self, *images: Any, **named: Any) -> StagedOutput:
        """Make the pass."""
        logits, values = self.reading(*images, **named)
        return StagedOutput(
            logits=logits,
            activations={name: values[name] for name in self.layers},
            heads={name: StagedHead.after(cut, values) for name, cut in self.cuts.items()},
        )

    @classmethod
    def make(cls, graph: NetworkGraph, paths: Mapping[str, str], taps: Container[str], training: bool) -> ReadPlan:
        """Find the nodes of layers, what follows those that are cuts, and what must be kept of the pass for it."""
        nodes = {layer: graph.node(path) for layer, path in paths.items()}
        cuts = {
            layer: _make_cut(graph, node)
            for layer, node in nodes.items()
            if layer not in taps and graph.head_nodes(node) is not None
        }
        read = dict(nodes)
        for layer, cut in cuts.items():
            kept = [graph.logits, nodes[layer], *cut.pull_back.reads]
            kept += [
                node.all_input_nodes[0]
                for node in cut.pull_back.nodes
                # what was given to a batch normalisation, where the batch's statistics may be asked for
                if node.name in cut.batch_norms and (training or cut.batch_norms[node.name].running_mean is None)
            ]
            read |= {node.name: node for node in kept}
        return cls(graph.reading(read), tuple(paths), cuts)


def _make_cut(graph: NetworkGraph, node: fx.Node) -> Cut:
    pull_back = PullBack(graph, node)
    batch_norms = graph.batch_norms(pull_back.nodes)
    return Cut(
        layer=node.name,
        head=graph.head(node),
        classifier=graph.linear_classifier(node),
        batch_norms=batch_norms,
        batch_norm_inputs={n.name: n.all_input_nodes[0].name for n in pull_back.nodes if n.name in batch_norms},
        pull_back=pull_back,
    )
