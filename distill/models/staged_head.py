"""`StagedHead`: the part of a traced network that follows a cut, as a function from activations to logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from distill.models.autocast import AutocastState
from distill.models.graph import NetworkGraph
from distill.models.hooked import OTHER_ACTIVATIONS, OTHER_STATISTICS
from distill.models.linear_backward import PullBack
from distill.models.pooled_head import PooledClassifier, find_classifiers
from distill.models.shape_reads import is_batch_size

Statistics: TypeAlias = dict[str, tuple[Tensor, Tensor]]

_ACTIVE_DROPOUT = "the forward pass used dropout in the head, which explanations leave out"


class Cut(NamedTuple):
    """A layer and the head that follows it; every path from the images to the logits passes through a cut.

    All strings are names of nodes of the traced network; ``layer`` is the node of the cut. ``sizes`` are the sizes that
    the head takes from the forward pass, and whether each is a number of samples. ``bypassing`` are the values that the
    head takes from it if the layer is no cut.
    """

    layer: str
    head: fx.GraphModule
    classifiers: tuple[PooledClassifier, ...]
    batch_norms: Mapping[str, _BatchNorm]
    batch_norm_inputs: Mapping[str, str]
    pull_back: PullBack
    sizes: Mapping[str, bool]
    bypassing: tuple[str, ...] = ()


@dataclass(frozen=True)
class StagedHead:
    """The part of a traced network that follows a cut: a function from activations to logits.

    Convention:
        - :meth:`pull_back` transposes the operations of the forward pass that the head belongs to.
        - Batch normalisation that used batch statistics in the forward pass uses the batch's mean and biased variance
          as constants, so the head processes each sample independently. All others use the running statistics right
          after the forward pass. No gradient flows into the statistics.
        - Values on paths that bypass the layer are those of the forward pass, as in any partial gradient.
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
    has_dropout: bool = False

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
        active = [is_read for dropout, is_read in cut.pull_back.dropouts if dropout.training and dropout.p > 0]
        obstacle = _ACTIVE_DROPOUT if any(active) else None
        return cls(cut, running, inputs, values, autocast, obstacle, has_dropout=bool(active))

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
        bypassing = [_without_inference(self.values[name]) for name in self.cut.bypassing]
        with self.autocast.restore():
            return self.cut.head(activations, self.statistics, *sizes, *bypassing)

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

    def pull_back(self, cotangent: Float[Tensor, "n classes"]) -> Float[Tensor, "n k ..."]:
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


def make_cut(graph: NetworkGraph, node: fx.Node) -> Cut:
    """Return the cut at a node of a traced network, with the values that bypass it."""
    bypassing = graph.following(node)[1]
    pull_back = PullBack(graph, node)
    batch_norms = graph.batch_norms(pull_back.nodes)
    return Cut(
        layer=node.name,
        head=graph.head(node),
        classifiers=() if bypassing else find_classifiers(graph, node),
        batch_norms=batch_norms,
        batch_norm_inputs={n.name: n.all_input_nodes[0].name for n in pull_back.nodes if n.name in batch_norms},
        pull_back=pull_back,
        sizes={size.name: is_batch_size(size) for size, recorded in graph.head_sizes(node).items() if recorded},
        bypassing=tuple(one.name for one in bypassing),
    )
