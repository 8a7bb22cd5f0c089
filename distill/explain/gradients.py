"""The explained score, and its gradient with respect to the activations of a layer.

A score is given as classes (N,), the logit of one class per sample; as weights (N, classes) of the logits, such as a
mean of classes; or as a function of the logits to (N,), such as a log-probability.

Three ways to compute the gradient, equal where they exist:
    - *closed form*: where the head is global average pooling and a linear layer, the gradient of a logit is the
      classifier's row for the class divided by the number of sites, the same at every site.
    - *linear backward*: where the head is made of known layers, the gradient is a chain of transposed convolutions,
      masks and scales. It needs no second pass of the head and no double backward.
    - *autograd*, through a second pass of any other head.

The trunk below the layer is never entered.
"""

from __future__ import annotations

import functools
import math
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, SupportsIndex, TypeAlias, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill.types import Head

Score: TypeAlias = Tensor | Callable[[Tensor], Tensor]
Target: TypeAlias = Literal["label", "predicted"] | SupportsIndex | Sequence[int] | Callable[[Tensor], Tensor]


def choose_score(target: Target, logits: Float[Tensor, "n classes"], labels: Int[Tensor, "n ..."] | None) -> Score:
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


Gradients = Literal["auto", "closed_form", "linear", "autograd"]


def score_gradients(
    head: Head,
    activations: Float[Tensor, "n k *s"],
    score: Score,
    *,
    create_graph: bool,
    how: Gradients = "auto",
) -> Float[Tensor, "n k ..."]:
    """Differentiate the score of each sample with respect to its activations.

    Args:
        head: What follows the layer.
        activations: What it was given.
        score: Classes (N,), weights of the logits (N, classes), or a function of the logits to (N,).
        create_graph: Whether the result must itself be differentiable, as for a training term.
        how: ``auto`` takes the first of the three ways that is exact; falling back to autograd is said once.

    Returns:
        Gradients in the shape of the activations, or with spatial axes of size 1 from the closed form.

    Raises:
        ValueError: if a way is asked for that this head does not have, or ``how`` is unknown.
    """
    if how not in get_args(Gradients):
        raise ValueError(f"`gradients` must be one of {get_args(Gradients)}, got {how!r}.")
    if how == "closed_form" and head.classifier is None:
        raise ValueError(
            "`gradients='closed_form'` needs a head that is global average pooling and a linear layer; use 'auto'."
        )
    with torch.set_grad_enabled(create_graph and torch.is_grad_enabled()):
        if how in ("auto", "closed_form") and head.classifier is not None:
            return closed_form(head.classifier, activations, _rows(head, activations, score, create_graph=create_graph))
        if how in ("auto", "linear"):
            obstacle = head.obstacle(activations)
            if obstacle is None:
                # What curves the score must see batch statistics as constants too: its gradient would flow into them.
                logits = head(activations) if callable(score) and create_graph else head.logits
                return head.pull_back(logit_weights(logits, score, create_graph=create_graph))
            if how == "linear":
                raise ValueError(f"`gradients='linear'` is not to be had: {obstacle}; use 'auto'.")
            _warn_once(obstacle)
    return through_head(head, activations, score, create_graph=create_graph)


def closed_form(classifier: nn.Linear, activations: Float[Tensor, "n k *s"], score: Tensor) -> Float[Tensor, "n k ..."]:
    """Read the gradient off the weights of the classifier, as spatial axes of size 1.

    Args:
        classifier: The linear layer.
        activations: What is pooled before it.
        score: Classes (N,), or weights of the logits (N, classes).
    """
    rows = classifier.weight[score] if score.ndim == 1 else score.to(classifier.weight.dtype) @ classifier.weight
    sites = math.prod(activations.shape[2:])
    return (rows / sites).view(*rows.shape, *[1] * (activations.ndim - 2))


def through_head(
    head: Head, activations: Float[Tensor, "n k *s"], score: Score, *, create_graph: bool
) -> Float[Tensor, "n k *s"]:
    """Differentiate through a second pass of the head; works under ``no_grad`` and ``inference_mode`` as well.

    Samples do not mix in a head whose batch normalisation is constant, so the gradient of the sum of the scores is
    every sample's own.

    Raises:
        ValueError: if the score does not depend on the activations.
    """
    with torch.inference_mode(False), torch.enable_grad():
        if activations.is_inference():
            activations = activations.clone()
        if isinstance(score, Tensor) and score.is_inference():
            score = score.clone()
        if not (create_graph and activations.requires_grad):
            activations = activations.detach().requires_grad_()
        total = score_of(head(activations), score).sum()
        gradients = None
        if total.requires_grad:
            (gradients,) = torch.autograd.grad(total, activations, create_graph=create_graph, allow_unused=True)
    if gradients is None:
        raise ValueError("the score does not depend on the layer; explain a layer that the logits are computed from.")
    return gradients if create_graph else gradients.detach()


def _rows(head: Head, activations: Tensor, score: Score, *, create_graph: bool) -> Tensor:
    """Give classes as they are, and any other score as weights of the logits."""
    if isinstance(score, Tensor):
        return score
    assert head.classifier is not None
    logits = head.logits if head.obstacle(activations) is None else head(activations)
    return logit_weights(logits, score, create_graph=create_graph)


@functools.cache
def _warn_once(obstacle: str) -> None:
    warnings.warn(f"gradients are found by autograd, through a second pass of the head: {obstacle}.", stacklevel=4)
