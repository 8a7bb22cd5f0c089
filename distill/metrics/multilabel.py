"""Average precision of every class, for images with several labels."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_average_precision, binary_precision_recall_curve
from torchmetrics.utilities import dim_zero_cat

from distill.metrics.common import Measurement

#: How the curve of precision over recall becomes one number.
Rule = Literal["area", "eleven_point"]


def average_precision(
    scores: Float[Tensor, "n classes"], labels: Int[Tensor, "n classes"], *, rule: Rule = "area"
) -> Float[Tensor, " classes"]:
    r"""Average precision of every class: how well its score ranks the images that show it before those that do not.

    Convention:
        - ``area``: :math:`\sum_n (R_n - R_{n-1}) P_n`, as in scikit-learn, without interpolation. ``eleven_point``: the
          mean over the recalls 0, 0.1, ..., 1 of the highest precision at that recall or a higher one, as in Pascal VOC
          2007.
        - Images with equal scores are ranked together, so the result does not depend on their order.
        - Images of which a class is not known (label -1) do not count for that class.
        - NaN (no score) for a class that no image shows, or with a score that is NaN.

    Args:
        scores: Logits or probabilities; only their order in a column matters.
        labels: 1 for a class that is present, 0 for one that is absent, -1 where that is not known.
        rule: ``area`` or ``eleven_point``.

    Returns:
        One score per class, from 0 to 1.

    Raises:
        ValueError: if the shapes differ, or ``rule`` is unknown.

    References:
        Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010, section 4.2.

    Example:
        >>> scores = torch.tensor([[0.9, 0.1], [0.8, 0.7], [0.3, 0.2]])
        >>> average_precision(scores, torch.tensor([[1, 0], [0, 0], [1, 0]]))
        tensor([0.8333,    nan])
    """
    if rule not in get_args(Rule):
        raise ValueError(f"`rule` must be one of {', '.join(get_args(Rule))}, got {rule!r}.")
    if scores.shape != labels.shape:
        raise ValueError(f"scores and labels differ in shape: {tuple(scores.shape)} and {tuple(labels.shape)}.")
    return torch.stack([_of_class(column, known, rule) for column, known in zip(scores.T, labels.T, strict=True)])


def _of_class(scores: Tensor, labels: Tensor, rule: Rule) -> Tensor:
    scores, labels = scores[labels >= 0].double(), labels[labels >= 0]
    nan = torch.full((), torch.nan, device=scores.device)
    if not bool((labels == 1).any()) or bool(scores.isnan().any()):
        return nan
    # Ranks: torchmetrics would apply a sigmoid to scores outside of [0, 1], which makes saturated logits equal.
    ranks = torch.unique(scores, return_inverse=True)[1].double() / len(scores)
    if rule == "area":
        return binary_average_precision(ranks, labels, validate_args=False).to(nan.dtype)
    precision, recall, _ = binary_precision_recall_curve(ranks, labels, validate_args=False)
    points = torch.arange(11, device=scores.device) / 10
    # The last point of the curve, precision 1 at recall 0, is no threshold; recalls are rounded to float32.
    reached = recall[:-1] >= points[:, None] - 1e-6
    return torch.where(reached, precision[:-1], 0.0).amax(1).mean().to(nan.dtype)


class MeanAveragePrecision(Metric):
    """Mean over the classes of :func:`average_precision`; classes without a score are excluded and counted.

    Args:
        rule: ``area`` or ``eleven_point``.
        kwargs: Keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: if ``rule`` is unknown.

    Example:
        >>> metric = MeanAveragePrecision()
        >>> metric.update(torch.tensor([[0.9, 0.1], [0.8, 0.7], [0.3, 0.2]]), torch.tensor([[1, 0], [0, 0], [1, 0]]))
        >>> metric.compute()
        Measurement(value=tensor(0.8333), n=tensor(1), excluded=tensor(1))
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self, *, rule: Rule = "area", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if rule not in get_args(Rule):
            raise ValueError(f"`rule` must be one of {', '.join(get_args(Rule))}, got {rule!r}.")
        self.rule: Rule = rule
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, scores: Float[Tensor, "n classes"], labels: Int[Tensor, "n classes"]) -> None:
        """Add a batch of logits or probabilities, and its labels."""
        self.scores.append(scores)
        self.labels.append(labels)

    def compute(self) -> Measurement:
        """Return the mean over the classes that have a score; NaN if there is none."""
        each = average_precision(dim_zero_cat(self.scores), dim_zero_cat(self.labels), rule=self.rule)
        missing = each.isnan()
        return Measurement(each[~missing].mean(), (~missing).sum(), missing.sum())
