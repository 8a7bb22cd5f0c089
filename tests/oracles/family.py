"""The rest of the family, one site at a time, and Grad-CAM++ of the softmax probability from true derivatives.

Sources: Fu et al. 2020 (XGrad-CAM, equation 8), Draelos and Carin 2020 (HiResCAM), Jiang et al. 2021 (Layer-CAM),
Zagoruyko and Komodakis 2017 (activation attention), Chattopadhyay et al. 2018, section 7.1 (signed gradients) and
equation 19 with Y = softmax (the derivatives are taken by differentiating, not from equations 21 to 24).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tests.oracles.cam import Array, sites, weighted_sum

Logits = Callable[[Tensor], Tensor]


def xgrad_cam(activations: Array, gradients: Array) -> Array:
    """The weight of a channel is sum(A g / sum(A)); a channel without activation has none."""

    def weigh(n: int, k: int) -> float:
        total = sum(float(activations[(n, k, *site)]) for site in sites(activations[n, k]))
        weight = 0.0
        for site in sites(activations[n, k]):
            if total != 0:
                weight += float(activations[(n, k, *site)]) / total * float(gradients[(n, k, *site)])
        return weight

    return weighted_sum(activations, weigh)


def _by_site(activations: Array, gradients: Array, term: Callable[[float, float], float]) -> Array:
    """relu(sum_k term(A, g)) at every site."""
    samples, channels = activations.shape[:2]
    maps = np.zeros((samples, *activations.shape[2:]))
    for n in range(samples):
        for site in sites(maps[n]):
            value = 0.0
            for k in range(channels):
                value += term(float(activations[(n, k, *site)]), float(gradients[(n, k, *site)]))
            maps[(n, *site)] = max(value, 0.0)
    return maps


def hires_cam(activations: Array, gradients: Array) -> Array:
    """The gradient times the activation, site by site."""
    return _by_site(activations, gradients, lambda a, g: g * a)


def layer_cam(activations: Array, gradients: Array) -> Array:
    """The positive gradient times the activation, site by site."""
    return _by_site(activations, gradients, lambda a, g: g * a if g > 0 else 0.0)


def activation_attention(activations: Array) -> Array:
    """The sum over the channels of the squared activation."""
    return _by_site(activations, activations, lambda a, _: a**2)


def grad_cam_pp_signed(activations: Array, gradients: Array) -> Array:
    """alpha = g^2 / (2 g^2 + sum(A) g^3) with its denominator at least g^2 / 1000; the weight is sum(alpha g)."""

    def weigh(n: int, k: int) -> float:
        total = sum(float(activations[(n, k, *site)]) for site in sites(activations[n, k]))
        weight = 0.0
        for site in sites(activations[n, k]):
            g = float(gradients[(n, k, *site)])
            if g != 0:
                weight += g**2 / max(2 * g**2 + total * g**3, g**2 / 1000) * g
        return weight

    return weighted_sum(activations, weigh)


def probability_derivatives(
    logits: Logits, label: int, activations: Tensor, site: tuple[int, ...]
) -> tuple[float, float, float]:
    """The first three derivatives of a class's softmax probability along one site of activations (1, K, *S)."""
    move = torch.zeros((), dtype=activations.dtype, requires_grad=True)
    direction = torch.zeros_like(activations)
    direction[(0, *site)] = 1.0
    value = logits(activations.detach() + move * direction)[0].softmax(0)[label]
    found = []
    for _ in range(3):
        (value,) = torch.autograd.grad(value, move, create_graph=True)
        found.append(float(value.detach()))
    return found[0], found[1], found[2]


def grad_cam_pp_softmax(logits: Logits, label: int, activations: Tensor) -> Array:
    """The map of one sample, (*S): alpha = Y2 / (2 Y2 + sum(A) Y3), weights sum(alpha relu(Y1)).

    ``logits`` carries activations (1, K, *S) on to (1, classes).
    """
    values = activations.detach()[0].double().numpy()
    maps = np.zeros(values.shape[1:])
    for k in range(len(values)):
        total = sum(float(values[(k, *site)]) for site in sites(values[k]))
        weight = 0.0
        for site in sites(values[k]):
            first, second, third = probability_derivatives(logits, label, activations, (k, *site))
            denominator = 2 * second + total * third
            alpha = second / denominator if denominator != 0 else 0.0
            weight += alpha * max(first, 0.0)
        maps += weight * values[k]
    return np.maximum(maps, 0.0)
