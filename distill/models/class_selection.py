"""Restrict a network to some of its classes: logits, heads and gradients are those of the selected columns.

The network itself stays as it is. A score of the selected logits has the same gradient with respect to the activations
as the same score of the full logits, so every way of computing gradients stays available, the closed form included.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from jaxtyping import Float, Int
from torch import Tensor, nn

from distill.types import Head, StagedOutput


def select_output(output: StagedOutput, columns: Int[Tensor, " k"]) -> StagedOutput:
    """Return the output of a forward pass with the selected columns of its logits, and heads that return these.

    Args:
        output: Output of a forward pass.
        columns: Indices of the classes, each once.
    """
    heads = {layer: SelectedHead(head, columns) for layer, head in output.heads.items()}
    return replace(output, logits=output.logits[:, columns], heads=heads)


@dataclass(frozen=True)
class SelectedHead:
    """A head that returns some columns of the logits of another head.

    Convention:
        - It implements :class:`distill.types.Head`.
    """

    head: Head
    columns: Int[Tensor, " k"]

    @cached_property
    def classifier(self) -> nn.Linear | None:
        """The selected rows of the linear layer if the head is global average pooling followed by that layer."""
        linear = self.head.classifier
        if linear is None:
            return None
        selected = nn.Linear(linear.in_features, len(self.columns), bias=False, device="meta")
        del selected.weight
        selected.weight = linear.weight[self.columns]
        return selected

    def __call__(self, activations: Float[Tensor, "n k *s"]) -> Float[Tensor, "n classes"]:
        """Compute the selected logits from activations of the layer."""
        return self.head(activations)[:, self.columns]

    @property
    def logits(self) -> Float[Tensor, "n classes"]:
        """The selected logits of the forward pass."""
        return self.head.logits[:, self.columns]

    @property
    def has_dropout(self) -> bool:
        """Whether the forward pass used dropout in the head."""
        return self.head.has_dropout

    def obstacle(self, activations: Float[Tensor, "n k *s"]) -> str | None:
        """Return why :meth:`pull_back` cannot be used for these activations, or None if it can."""
        return self.head.obstacle(activations)

    def pull_back(self, cotangent: Float[Tensor, "n classes"]) -> Float[Tensor, "n k ..."]:
        """Return the gradient of ``(cotangent * logits).sum()`` with respect to the activations."""
        full = cotangent.new_zeros(len(cotangent), self.head.logits.shape[1])
        return self.head.pull_back(full.index_copy(1, self.columns, cotangent))

    def with_running_statistics(self) -> SelectedHead:
        """Return this head with running instead of batch statistics where the network keeps them."""
        return SelectedHead(self.head.with_running_statistics(), self.columns)
