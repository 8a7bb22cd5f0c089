"""The gradient of a score with respect to the activations of a layer, through the head alone.

Three ways, equal where they exist:
    - *closed form*: where the head is global average pooling and a linear layer, the gradient of a logit is the row of
      the class over the number of sites, the same at every site. No graph is differentiated twice.
    - *linear backward*: where the head is made of known layers, the gradient is a chain of transposed convolutions,
      masks and scales, from the masks of the forward pass that was already made. No second pass of the head, no graph
      is differentiated twice.
    - *autograd* through a second pass of any other head.

The trunk below the layer is never entered.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill.types import Head

Gradients = Literal["auto", "closed_form", "linear", "autograd"]
Score: TypeAlias = Callable[[Tensor], Tensor]


def score_gradients(
    head: Head,
    activations: Float[Tensor, "n k *s"],
    target: Int[Tensor, " n"],
    *,
    create_graph: bool,
    how: Gradients = "auto",
) -> Float[Tensor, "n k ..."]:
    """Differentiate the logit of each sample's target class with respect to the activations.

    Args:
        head: What follows the layer.
        activations: What it was given.
        target: A class for every sample.
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
    if how in ("auto", "closed_form") and head.classifier is not None:
        return closed_form(head.classifier, activations, target)
    if how in ("auto", "linear"):
        hindrance = head.opaque(activations)
        if hindrance is None:
            return linear_backward(head, activations, target)
        if how == "linear":
            raise ValueError(f"`gradients='linear'` is not to be had: {hindrance}; use 'auto'.")
        _say_once(hindrance)
    return through_head(head, activations, target, create_graph=create_graph)


def closed_form(
    classifier: nn.Linear, activations: Float[Tensor, "n k *s"], target: Int[Tensor, " n"]
) -> Float[Tensor, "n k ..."]:
    """Read the gradient off the weights of the classifier, as spatial axes of size 1."""
    rows = classifier.weight[target]
    sites = math.prod(activations.shape[2:])
    return (rows / sites).view(*rows.shape, *[1] * (activations.ndim - 2))


def linear_backward(
    head: Head, activations: Float[Tensor, "n k *s"], target: Int[Tensor, " n"]
) -> Float[Tensor, "n k *s"]:
    """Carry a 1 at the target's logit back through the head by forward operations."""
    at_target = torch.zeros_like(head.logits.detach()).scatter_(1, target[:, None], 1.0)
    return head.pull_back(at_target)


def through_head(
    head: Head, activations: Float[Tensor, "n k *s"], target: Int[Tensor, " n"], *, create_graph: bool
) -> Float[Tensor, "n k *s"]:
    """Differentiate through a second pass of the head; works under ``no_grad`` and ``inference_mode`` as well.

    Samples do not mix in a head whose batch normalisation is constant, so the gradient of the sum of the scores is
    every sample's own.
    """
    with torch.inference_mode(False), torch.enable_grad():
        if activations.is_inference():
            activations, target = activations.clone(), target.clone()
        if not (create_graph and activations.requires_grad):
            activations = activations.detach().requires_grad_()
        scores = head(activations).gather(1, target[:, None]).sum()
        (gradients,) = torch.autograd.grad(scores, activations, create_graph=create_graph)
    return gradients if create_graph else gradients.detach()


@functools.cache
def _say_once(hindrance: str) -> None:
    warnings.warn(f"gradients are found by autograd, through a second pass of the head: {hindrance}.", stacklevel=4)
