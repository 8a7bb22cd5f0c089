"""Cross-entropy with the labels."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from distill.losses.term import TermInputs


class CrossEntropy(nn.Module):
    """The term ``cross_entropy``: mean over the batch, in nats.

    Args:
        label_smoothing: Share of the label that is spread over all classes, in [0, 1).
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, inputs: TermInputs) -> Float[Tensor, ""]:
        """Compare the student's logits with the labels."""
        logits = inputs.student.logits
        logits = logits if logits.dtype.itemsize == 8 else logits.float()
        return F.cross_entropy(logits, inputs.labels, label_smoothing=self.label_smoothing)
