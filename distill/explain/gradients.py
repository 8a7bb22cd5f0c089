"""The gradient of a score with respect to the activations of a layer, through the head alone.

Two ways, equal where both exist:
    - *closed form*: where the head is global average pooling and a linear layer, the gradient of a logit is the row of
      the class over the number of sites, the same at every site. No graph is differentiated twice.
    - *autograd* through the head of any other layer. The trunk below the layer is never entered.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill.types import Head

Gradients = Literal["auto", "closed_form", "autograd"]
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
        how: ``auto`` takes the closed form where it is exact.

    Returns:
        Gradients in the shape of the activations, or with spatial axes of size 1 from the closed form.

    Raises:
        ValueError: if the closed form is asked for and the head is another one, or ``how`` is unknown.
    """
    if how not in get_args(Gradients):
        raise ValueError(f"`gradients` must be one of {get_args(Gradients)}, got {how!r}.")
    if how == "closed_form" and head.classifier is None:
        raise ValueError(
            "`gradients='closed_form'` needs a head that is global average pooling and a linear layer; use 'auto'."
        )
    if how != "autograd" and head.classifier is not None:
        return closed_form(head.classifier, activations, target)
    return through_head(head, activations, target, create_graph=create_graph)


def closed_form(
    classifier: nn.Linear, activations: Float[Tensor, "n k *s"], target: Int[Tensor, " n"]
) -> Float[Tensor, "n k ..."]:
    """Read the gradient off the weights of the classifier, as spatial axes of size 1."""
    rows = classifier.weight[target]
    sites = math.prod(activations.shape[2:])
    return (rows / sites).view(*rows.shape, *[1] * (activations.ndim - 2))


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
