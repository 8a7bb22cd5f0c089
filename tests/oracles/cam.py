"""Class activation maps, one site at a time.

Sources: Zhou et al. 2016 (CAM), Selvaraju et al. 2017 (Grad-CAM), Lerma and Lucas 2022 (positive gradients),
Chattopadhyay et al. 2018, equations 5, 19 and 20 (Grad-CAM++, in the raw form with the cube of the gradient).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weigh = Callable[[Array, Array], float]


def sites(array: Array) -> Iterator[tuple[int, ...]]:
    """Every index of an array."""
    return iter(np.ndindex(*array.shape))


def weighted_sum(activations: Array, weigh: Callable[[int, int], float]) -> Array:
    """relu(sum_k w_nk A_nk), with the weight of each sample and channel from ``weigh``."""
    samples, channels = activations.shape[:2]
    maps = np.zeros((samples, *activations.shape[2:]))
    for n in range(samples):
        for k in range(channels):
            weight = weigh(n, k)
            for site in sites(activations[n, k]):
                maps[(n, *site)] += weight * activations[(n, k, *site)]
        for site in sites(maps[n]):
            maps[(n, *site)] = max(maps[(n, *site)], 0.0)
    return maps


def cam(activations: Array, class_weights: Array) -> Array:
    """relu(sum_k W_ck A_k)."""
    return weighted_sum(activations, lambda n, k: float(class_weights[n, k]))


def grad_cam(activations: Array, gradients: Array) -> Array:
    """The weight of a channel is the mean of its gradient."""

    def weigh(n: int, k: int) -> float:
        values = [float(gradients[(n, k, *site)]) for site in sites(activations[n, k])]
        return sum(values) / len(values)

    return weighted_sum(activations, weigh)


def positive_grad_cam(activations: Array, gradients: Array) -> Array:
    """The weight of a channel is the sum of the positive part of its gradient."""

    def weigh(n: int, k: int) -> float:
        return sum(max(float(gradients[(n, k, *site)]), 0.0) for site in sites(activations[n, k]))

    return weighted_sum(activations, weigh)


def grad_cam_pp(activations: Array, gradients: Array) -> Array:
    """alpha = g^2 / (2 g^2 + sum(A) g^3), 0 where g is 0; the weight of a channel is sum(alpha relu(g))."""

    def weigh(n: int, k: int) -> float:
        total = sum(float(activations[(n, k, *site)]) for site in sites(activations[n, k]))
        weight = 0.0
        for site in sites(activations[n, k]):
            g = float(gradients[(n, k, *site)])
            alpha = g**2 / (2 * g**2 + total * g**3) if g != 0 else 0.0
            weight += alpha * max(g, 0.0)
        return weight

    return weighted_sum(activations, weigh)
