"""What follows a cut, as one forward pass left it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

Statistics: TypeAlias = dict[str, tuple[Tensor, Tensor]]


class Cut(NamedTuple):
    """A layer that everything after it depends on alone, and what comes after."""

    head: fx.GraphModule
    classifier: nn.Linear | None
    batch_norms: Mapping[str, _BatchNorm]


@dataclass(frozen=True)
class StagedHead:
    """What follows a cut, with batch normalisation as the constants of the pass that it belongs to.

    Convention:
        - What normalised by the batch in that pass uses the batch's mean and biased variance, the rest the running
          statistics as they were right after it. No gradient flows into either.
        - Neither the mode of the network nor later passes change it.
    """

    cut: Cut
    running: Statistics
    batch_inputs: Mapping[str, Tensor]

    @classmethod
    def after(cls, cut: Cut, values: Mapping[str, Tensor]) -> StagedHead:
        """Keep what a pass that was just made left; ``values`` holds inputs of batch normalisations by path."""
        norms = cut.batch_norms.items()
        running = {
            path: (n.running_mean.clone(), n.running_var.clone())
            for path, n in norms
            if n.running_mean is not None and n.running_var is not None
        }
        inputs = {path: values[path] for path, n in norms if n.training or path not in running}
        return cls(cut, running, inputs)

    @property
    def classifier(self) -> nn.Linear | None:
        """The linear layer, where the head is nothing but global average pooling and that layer; else None."""
        return self.cut.classifier

    @property
    def statistics(self) -> Statistics:
        """Mean and variance of every batch normalisation, by its dotted path."""
        running = {path: (_usable(mean), _usable(variance)) for path, (mean, variance) in self.running.items()}
        return running | {path: _of_batch(given) for path, given in self.batch_inputs.items()}

    def __call__(self, activations: Float[Tensor, "n k *s"]) -> Float[Tensor, "n classes"]:
        """Carry activations of the layer on to the logits."""
        return self.cut.head(activations, self.statistics)

    def with_running_statistics(self) -> StagedHead:
        """Give the same head with the running statistics, where there are any."""
        inputs = {path: given for path, given in self.batch_inputs.items() if path not in self.running}
        return replace(self, batch_inputs=inputs)


def _usable(tensor: Tensor) -> Tensor:
    """Make what a pass in inference mode left fit for a graph outside of it."""
    return tensor.clone() if tensor.is_inference() and not torch.is_inference_mode_enabled() else tensor


def _of_batch(given: Tensor) -> tuple[Tensor, Tensor]:
    given = given.detach()
    given = given if given.dtype == torch.float64 else given.float()
    variance, mean = torch.var_mean(given, [0, *range(2, given.ndim)], correction=0)
    return mean, variance
