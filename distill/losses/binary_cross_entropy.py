"""Binary cross-entropy of every class, for images with several labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill.losses.term import TermInputs
from distill.maps import at_least_float32


def binary_cross_entropy_loss(
    logits: Float[Tensor, "n classes"],
    labels: Int[Tensor, "n ..."],
    *,
    positive_weight: Float[Tensor, " classes"] | None = None,
    label_smoothing: float = 0.0,
    gamma_positive: float = 0.0,
    gamma_negative: float = 0.0,
    margin: float = 0.0,
) -> Float[Tensor, ""]:
    r"""Binary cross-entropy, with the focusing of the focal and the asymmetric loss.

    .. math::
        -\,w\,y\,(1-p)^{\gamma_+} \log p \;-\; (1-y)\,p_m^{\gamma_-} \log(1-p_m),
        \qquad p = \sigma(z),\; p_m = \max(p - m, 0)

    Convention:
        - Summed over the classes and averaged over the images, as the soft targets are; so C times
          ``torch.nn.BCEWithLogitsLoss``, which also averages over the C classes.
        - Classes that are not known (label -1) add nothing. An image of which no class is known still counts.
        - Equal ``gamma_positive`` and ``gamma_negative`` are the focal loss without its factor alpha.
        - Label smoothing replaces the label y by :math:`(1 - \epsilon) y + \epsilon / 2`.

    Args:
        logits: Logits of the student.
        labels: 1 for a class that is present, 0 for one that is absent, -1 where that is not known.
        positive_weight: Weight w of the first part, for every class; 1 by default.
        label_smoothing: Epsilon, in [0, 1).
        gamma_positive: Exponent of the first part, at least 0.
        gamma_negative: Exponent of the second part, at least 0.
        margin: m, in [0, 1): probabilities below it cost nothing where the class is absent.

    Returns:
        A scalar in nats, in float32 or float64.

    Raises:
        ValueError: If the shapes differ, or an argument is out of range.

    References:
        - Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 4.
        - Ridnik et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021, eq. 7 (the authors sum over the
          images, too).

    Example:
        >>> binary_cross_entropy_loss(torch.zeros(1, 3), torch.tensor([[1, 0, -1]]))
        tensor(1.3863)
    """
    if logits.shape != labels.shape:
        raise ValueError(
            f"`labels` must have one column per class, as the logits {tuple(logits.shape)}, got {tuple(labels.shape)}."
        )
    for name, value in (("label_smoothing", label_smoothing), ("margin", margin)):
        if not 0 <= value < 1:
            raise ValueError(f"`{name}` must be at least 0 and below 1, got {value}.")
    for name, value in (("gamma_positive", gamma_positive), ("gamma_negative", gamma_negative)):
        if not value >= 0:
            raise ValueError(f"`{name}` must be at least 0, got {value}.")
    logits = at_least_float32(logits)
    target = (1 - label_smoothing) * (labels > 0).to(logits.dtype) + label_smoothing / 2
    positive, negative = F.logsigmoid(logits), F.logsigmoid(-logits)
    if gamma_positive:
        positive = positive * torch.sigmoid(-logits) ** gamma_positive
    if margin or gamma_negative:
        shifted = (torch.sigmoid(logits) - margin).clamp(min=0)
        if margin:
            negative = torch.log1p(-shifted)
        if gamma_negative:
            negative = negative * shifted**gamma_negative
    if positive_weight is not None:
        positive = positive * positive_weight
    each = -(target * positive + (1 - target) * negative)
    return torch.where(labels < 0, 0.0, each).sum() / len(logits)


class BinaryCrossEntropy(nn.Module):
    """The term ``binary_cross_entropy``, see :func:`binary_cross_entropy_loss`.

    Args:
        label_smoothing: Epsilon, in [0, 1).
        gamma_positive: Exponent for classes that are present, at least 0.
        gamma_negative: Exponent for classes that are absent, at least 0.
        margin: Probabilities below it cost nothing where the class is absent, in [0, 1).
    """

    positive_weight: Tensor | None

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        gamma_positive: float = 0.0,
        gamma_negative: float = 0.0,
        margin: float = 0.0,
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.gamma_positive, self.gamma_negative, self.margin = gamma_positive, gamma_negative, margin
        self.register_buffer("positive_weight", None, persistent=False)

    def weigh_classes(self, weights: Float[Tensor, " k"]) -> None:
        """Give the positive labels of every class a weight; the weights are not saved in checkpoints."""
        self.positive_weight = weights

    def forward(self, inputs: TermInputs) -> Float[Tensor, ""]:
        """Compute the loss from the student's logits and the labels."""
        return binary_cross_entropy_loss(
            inputs.student.logits,
            inputs.labels,
            positive_weight=self.positive_weight,
            label_smoothing=self.label_smoothing,
            gamma_positive=self.gamma_positive,
            gamma_negative=self.gamma_negative,
            margin=self.margin,
        )
