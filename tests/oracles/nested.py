"""Grad-CAM++ from the true derivatives of Y = exp(s), one site at a time.

Equation 19 asks for d2Y/dA_kij^2 and d3Y/dA_kij^3. Each site gets a scalar of its own, moved by which the class
score is differentiated three times; a gradient of a sum of gradients would give rows of the Hessian instead.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tests.oracles.cam import Array, sites

Score = Callable[[Tensor], Tensor]


def derivatives(score: Score, activations: Tensor, site: tuple[int, ...]) -> tuple[float, float, float]:
    """The first three derivatives of exp(score) along one site of one sample's activations (1, K, *S)."""
    move = torch.zeros((), dtype=activations.dtype, requires_grad=True)
    direction = torch.zeros_like(activations)
    direction[(0, *site)] = 1.0
    value = score(activations.detach() + move * direction).exp()
    found = []
    for _ in range(3):
        (value,) = torch.autograd.grad(value, move, create_graph=True)
        found.append(float(value.detach()))
    return found[0], found[1], found[2]


def grad_cam_pp(score: Score, activations: Tensor) -> Array:
    """The map of one sample, (*S), divided by exp(s).

    ``score`` carries activations (1, K, *S) on to the logit of the class, a tensor without axes.
    """
    values = activations.detach()[0].double().numpy()
    maps = np.zeros(values.shape[1:])
    scale = float(score(activations.detach()).detach().exp())
    for k in range(len(values)):
        total = sum(float(values[(k, *site)]) for site in sites(values[k]))
        weight = 0.0
        for site in sites(values[k]):
            first, second, third = derivatives(score, activations, (k, *site))
            alpha = second / (2 * second + total * third) if second != 0 else 0.0
            weight += alpha * max(first, 0.0)
        maps += weight * values[k]
    return np.maximum(maps, 0.0) / scale
