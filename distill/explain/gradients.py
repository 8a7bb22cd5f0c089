"""The explained score, and its gradient with respect to the activations of a layer.

A score is one of:
    - Classes (N,): the logit of one class per sample.
    - Weights of the logits (N, classes): their weighted sum, such as the mean of several classes.
    - A function from logits to scores (N,), such as a log-probability.

The gradient is computed in one of three ways, which agree where they are available:
    - *closed form*: if the head is global average pooling and a linear layer, the gradient of a logit is the row of the
      linear layer for the class divided by the number of sites. It is the same at every site.
    - *linear backward*: if every operation of the head is supported, the gradient is a chain of transposed
      convolutions, masks and scales. It needs neither a second forward pass of the head nor double backward.
    - *autograd*: through a second forward pass of any other head.

The layers below the explained layer are not run again.
"""

from __future__ import annotations

import functools
import math
import operator
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Literal, SupportsIndex, TypeAlias, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill.models.double_backward import math_attention
from distill.types import Head

Score: TypeAlias = Tensor | Callable[[Tensor], Tensor]
Target: TypeAlias = Literal["label", "predicted"] | SupportsIndex | Sequence[int] | Callable[[Tensor], Tensor]


def choose_score(target: Target, logits: Float[Tensor, "n classes"], labels: Int[Tensor, "n ..."] | None) -> Score:
    """Return the score for a target.

    Args:
        target: ``label``, ``predicted`` (the class with the largest logit), the index of one class, the indices of
            several classes (the mean of their logits), or a function from logits to scores (N,).
        logits: Logits of the network.
        labels: Classes; required if the target is ``label``.

    Returns:
        Classes (N,), weights of the logits (N, classes), or the function.

    Raises:
        ValueError: If labels are missing, or a class does not exist.

    Example:
        >>> choose_score([0, 2], torch.zeros(1, 4), None)
        tensor([[0.5000, 0.0000, 0.5000, 0.0000]])
    """
    if target == "label":
        if labels is None:
            raise ValueError("`labels` are required for `target='label'`; pass them, or set `target='predicted'`.")
        return labels
    if target == "predicted":
        return logits.argmax(1)
    if callable(target):
        return target
    is_single = isinstance(target, SupportsIndex)  # also a NumPy integer or an integer tensor
    indices: Any = [target] if is_single else target
    try:
        classes = [operator.index(c) for c in indices]
    except TypeError:
        classes = []
    invalid = [c for c in classes if not 0 <= c < logits.shape[1]]
    if invalid or not classes:
        raise ValueError(f"`target` must be classes from 0 to {logits.shape[1] - 1}, got {target!r}.")
    if is_single:
        return logits.new_full(logits.shape[:1], classes[0], dtype=torch.int64)
    weights = torch.zeros_like(logits.detach())
    weights[:, classes] = 1 / len(classes)
    return weights


def score_of(logits: Float[Tensor, "n classes"], score: Score) -> Float[Tensor, " n"]:
    """Compute the score of each sample."""
    if callable(score):
        values = score(logits)
        if values.shape != logits.shape[:1]:
            raise ValueError(
                f"`target` must return one number per sample, ({len(logits)},); it returned {tuple(values.shape)}."
            )
        return values
    if score.ndim == 2:
        return (logits * score).sum(1)
    return logits.gather(1, score[:, None])[:, 0]


def logit_weights(
    logits: Float[Tensor, "n classes"], score: Score, *, create_graph: bool
) -> Float[Tensor, "n classes"]:
    """Return the gradient of the score with respect to the logits; for the logit of one class, it is one-hot."""
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
            raise ValueError("the score does not depend on the logits; pass a `target` that is a function of them.")
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
    """Return the gradient of each sample's score with respect to its activations.

    Args:
        head: The part of the network that follows the layer.
        activations: Activations of the layer.
        score: Classes (N,), weights of the logits (N, classes), or a function from logits to scores (N,).
        create_graph: Whether the gradients must be differentiable, as for a training term.
        how: ``closed_form``, ``linear``, ``autograd``, or ``auto`` for the first of them that is available. A warning
            is given once if ``auto`` uses autograd.

    Returns:
        Gradients in the shape of the activations, or with spatial axes of size 1 if they are the same at every site.

    Raises:
        ValueError: If ``how`` is unknown or not available for this head.
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
                # head(activations) keeps batch statistics constant; gradients of head.logits would flow into them.
                own = callable(score) and (create_graph or head.has_dropout)
                logits = head(activations) if own else head.logits
                return head.pull_back(logit_weights(logits, score, create_graph=create_graph))
            if how == "linear":
                raise ValueError(f"`gradients='linear'` is not available: {obstacle}; use 'auto'.")
            _warn_once(obstacle)
    return through_head(head, activations, score, create_graph=create_graph)


def closed_form(classifier: nn.Linear, activations: Float[Tensor, "n k *s"], score: Tensor) -> Float[Tensor, "n k ..."]:
    """Compute the gradient of the score from the weights of a linear layer that follows global average pooling.

    Args:
        classifier: The linear layer.
        activations: Input of the pooling.
        score: Classes (N,), or weights of the logits (N, classes).

    Returns:
        Gradients with spatial axes of size 1.
    """
    rows = classifier.weight[score] if score.ndim == 1 else score.to(classifier.weight.dtype) @ classifier.weight
    sites = math.prod(activations.shape[2:])
    return (rows / sites).view(*rows.shape, *[1] * (activations.ndim - 2))


def through_head(
    head: Head, activations: Float[Tensor, "n k *s"], score: Score, *, create_graph: bool
) -> Float[Tensor, "n k *s"]:
    """Compute the gradient of the score by autograd, through a second forward pass of the head.

    The head processes samples independently, so the gradient of the sum of the scores holds the gradient of each
    sample's score. Works under ``no_grad`` and ``inference_mode``.

    Raises:
        ValueError: If the score does not depend on the activations.
    """
    with torch.inference_mode(False), torch.enable_grad():
        if activations.is_inference():
            activations = activations.clone()
        if isinstance(score, Tensor) and score.is_inference():
            score = score.clone()
        if not (create_graph and activations.requires_grad):
            activations = activations.detach().requires_grad_()
        with math_attention() if create_graph else nullcontext():
            total = score_of(head(activations), score).sum()
        gradients = None
        if total.requires_grad:
            (gradients,) = torch.autograd.grad(total, activations, create_graph=create_graph, allow_unused=True)
    if gradients is None:
        raise ValueError("the score does not depend on the layer; explain a layer that the logits are computed from.")
    return gradients if create_graph else gradients.detach()


def _rows(head: Head, activations: Tensor, score: Score, *, create_graph: bool) -> Tensor:
    """Return classes or weights unchanged, and the gradient of a function with respect to the logits."""
    if isinstance(score, Tensor):
        return score
    assert head.classifier is not None
    is_same = head.obstacle(activations) is None and not head.has_dropout
    logits = head.logits if is_same else head(activations)
    return logit_weights(logits, score, create_graph=create_graph)


@functools.cache
def _warn_once(obstacle: str) -> None:
    warnings.warn(f"computing gradients by autograd, through a second pass of the head: {obstacle}.", stacklevel=4)
