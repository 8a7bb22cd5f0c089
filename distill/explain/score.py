"""What is explained: a number for every sample, made of the logits.

A score is given as classes (N,), the logit of one class each; as weights (N, classes) of the logits, such as a mean of
classes; or as a function of the logits to (N,), such as a log-probability or a regression output.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal, SupportsIndex, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

Score: TypeAlias = Tensor | Callable[[Tensor], Tensor]
Target: TypeAlias = Literal["label", "predicted"] | int | Sequence[int] | Callable[[Tensor], Tensor]


def choose_score(target: Target, logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"] | None) -> Score:
    """Make the score that a target names.

    Args:
        target: ``label``, ``predicted`` (the network's first choice), the number of one class, the numbers of several
            (the mean of their logits), or a function of the logits to (N,).
        logits: Of the network.
        labels: Needed where the target is ``label``.

    Raises:
        ValueError: if labels are missing, or a class does not exist.

    Example:
        >>> choose_score([0, 2], torch.zeros(1, 4), None)
        tensor([[0.5000, 0.0000, 0.5000, 0.0000]])
    """
    if target == "label":
        if labels is None:
            raise ValueError("`labels` are needed to explain them; give them, or choose `target='predicted'`.")
        return labels
    if target == "predicted":
        return logits.argmax(1)
    if callable(target):
        return target
    one = isinstance(target, SupportsIndex)  # a number of numpy or a tensor as well
    given: Any = [target] if one else target
    try:
        classes = [operator.index(c) for c in given]
    except TypeError:
        classes = []
    wrong = [c for c in classes if not 0 <= c < logits.shape[1]]
    if wrong or not classes:
        raise ValueError(f"`target` must be classes from 0 to {logits.shape[1] - 1}, got {target!r}.")
    if one:
        return logits.new_full(logits.shape[:1], classes[0], dtype=torch.int64)
    weights = torch.zeros_like(logits.detach())
    weights[:, classes] = 1 / len(classes)
    return weights


def score_of(logits: Float[Tensor, "n classes"], score: Score) -> Float[Tensor, " n"]:
    """Compute the score of every sample."""
    if callable(score):
        values = score(logits)
        if values.shape != logits.shape[:1]:
            raise ValueError(f"a score must be one number a sample, ({len(logits)},); got {tuple(values.shape)}.")
        return values
    if score.ndim == 2:
        return (logits * score).sum(1)
    return logits.gather(1, score[:, None])[:, 0]


def logit_weights(
    logits: Float[Tensor, "n classes"], score: Score, *, create_graph: bool
) -> Float[Tensor, "n classes"]:
    """Differentiate the score with respect to the logits: 1 at the class for the logit of a class."""
    if not callable(score):
        if score.ndim == 2:
            return score.to(logits.dtype)
        return torch.zeros_like(logits.detach()).scatter(1, score[:, None], 1.0)
    with torch.inference_mode(False), torch.enable_grad():
        logits = logits.clone() if logits.is_inference() else logits
        if not (create_graph and logits.requires_grad):
            logits = logits.detach().requires_grad_()
        total = score_of(logits, score).sum()
        if not total.requires_grad:
            raise ValueError("the score does not depend on the logits; there is nothing to explain.")
        (weights,) = torch.autograd.grad(total, logits, create_graph=create_graph)
    return weights
