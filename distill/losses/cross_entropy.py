"""Cross-entropy of the student's logits with the labels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from distill.losses.term import TermInputs
from distill.maps import at_least_float32


class CrossEntropy(nn.Module):
    """The term ``cross_entropy``: the mean over the batch, in nats.

    Convention:
        - With class weights, the mean is weighted: the sum of the weighted losses, divided by the sum of the weights of
          the labels, as in ``torch.nn.CrossEntropyLoss``.
        - The loss of a mixed image is that of both of its classes, weighted by their shares; likewise the divisor. With
          a share of 1 this is the loss of the first class. Without class weights it is the cross-entropy with the
          shares as class probabilities.

    Args:
        label_smoothing: Fraction of the target probability that is spread evenly over all classes, in [0, 1).
    """

    class_weights: Tensor | None

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weights", None, persistent=False)

    def weigh_classes(self, weights: Float[Tensor, " k"]) -> None:
        """Give every class a weight; the weights depend on the training images and are not saved in checkpoints."""
        self.class_weights = weights

    def forward(self, inputs: TermInputs) -> Float[Tensor, ""]:
        """Compute the loss from the student's logits and the labels."""
        logits, mix = at_least_float32(inputs.student.logits), inputs.mix
        settings: dict[str, Any] = {"weight": self.class_weights, "label_smoothing": self.label_smoothing}
        if mix is None:
            return F.cross_entropy(logits, inputs.labels, **settings)
        parts = [(mix.share, inputs.labels), (1 - mix.share, mix.others)]
        losses = [share * F.cross_entropy(logits, labels, **settings, reduction="sum") for share, labels in parts]
        if self.class_weights is None:
            return torch.stack(losses).sum() / len(logits)
        divisors = [share * self.class_weights[labels].sum() for share, labels in parts]
        return torch.stack(losses).sum() / torch.stack(divisors).sum()
