"""What follows a cut, as one forward pass left it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from distill.autocast import Autocast
from distill.models.pullback import PullBack

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
    autocast: Autocast
    hindrance: str | None = None

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
        autocast = Autocast.now(values[cut.layer].device.type)
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
        with self.autocast.again():
            return self.cut.head(activations, self.statistics)

    def with_running_statistics(self) -> StagedHead:
        """Give the same head with the running statistics, where there are any."""
        inputs = {name: given for name, given in self.batch_inputs.items() if name not in self.running}
        if len(inputs) == len(self.batch_inputs):
            return self
        return replace(self, batch_inputs=inputs, hindrance=_OTHER_STATISTICS)

    def opaque(self, activations: Tensor) -> str | None:
        """Say what hinders :meth:`pull_back`, if anything does.

        It belongs to the very activations of the pass, and needs a rule for every operation.
        """
        if self.values[self.cut.layer] is not activations:
            return "these are other activations than those of the forward pass"
        if self.hindrance:
            return self.hindrance
        unknown = self.cut.pull_back.unsupported
        return f"no linear backward for {', '.join(dict.fromkeys(unknown))}" if unknown else None

    def pull_back(self, cotangent: Float[Tensor, "n classes"]) -> Float[Tensor, "n k *s"]:
        """Carry a weight for every logit back to the activations, by ordinary forward operations."""
        with self.autocast.again():
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
