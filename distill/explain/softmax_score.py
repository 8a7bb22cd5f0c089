r"""Grad-CAM++ of the softmax score, which needs the gradients of all logits.

References:
    Chattopadhyay et al., WACV 2018, eq. 21 to 24.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.explain.cam import checked, sum_over_sites, weighted_sum, wide


def grad_cam_pp_softmax(
    activations: Float[Tensor, "n k *s"],
    gradients: Float[Tensor, "n classes k ..."],
    logits: Float[Tensor, "n classes"],
    target: Int[Tensor, " n"],
) -> Float[Tensor, "n *s"]:
    r"""Grad-CAM++ with the derivatives of the target's softmax probability.

    With :math:`p` the probabilities, :math:`D = g_c - \bar g` where :math:`\bar g = \sum_j p_j g_j`, and :math:`V` and
    :math:`M` the second and third central moment of :math:`g` under :math:`p`, the derivatives of the score
    :math:`Y` under a head that is linear around the activations are

    .. math:: Y_1 = Y D,\quad Y_2 = Y (D^2 - V),\quad Y_3 = Y (D^3 - 3 D V - M),\qquad
              \alpha = \frac{Y_2}{2 Y_2 + Y_3 \sum A_k},\quad w_k = \sum \alpha\,\mathrm{relu}(D).

    Convention:
        - Y, a factor of the whole map, is left out. Where the two terms of the denominator cancel, alpha is 0.

    Args:
        activations: Of the layer, post-ReLU.
        gradients: Of every logit; spatial axes of size 1 where they are the same at every site.
        logits: Of the network.
        target: The explained class.

    Returns:
        Maps, not negative, not normalised, float32 or wider.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> one = torch.ones(1, 1, 2)
        >>> grad_cam_pp_softmax(one, torch.stack([one / 2, 0 * one], 1), torch.tensor([[0.0, 2.0]]), torch.tensor([0]))
        tensor([[0.3543, 0.3543]])
    """
    if gradients.shape[:2] != logits.shape:
        raise ValueError(
            f"`gradients` must be (samples, classes, channels, *sites) with the first two {tuple(logits.shape)}, "
            f"got {tuple(gradients.shape)}."
        )
    rows = torch.arange(len(target), device=target.device)
    activations, own = checked(activations, gradients[rows, target])
    gradients = wide(gradients)
    probabilities = wide(logits).softmax(1).view(*logits.shape, *[1] * (gradients.ndim - 2))
    # Relative to the class's own gradient, and by the second derivative: a probability near 1 cancels nothing then.
    others = gradients - own[:, None]
    first = -(probabilities * others).sum(1)
    centred = others + first[:, None]
    variance = (probabilities * centred.square()).sum(1)
    skew = (probabilities * centred**3).sum(1)
    second = first.square() - variance
    third = first**3 - 3 * first * variance - skew
    size = second.detach().abs()
    size = torch.where(size == 0, 1.0, size)
    second, third = second / size, third / size
    total = activations.flatten(2).sum(2)
    denominator = 2 * second + third * total.view(*total.shape, *[1] * (first.ndim - 2))
    cancelled = denominator.abs() <= 1e-6 * (2 * second).abs()
    alpha = torch.where(cancelled, 0.0, second / torch.where(cancelled, 1.0, denominator))
    return weighted_sum(sum_over_sites(alpha * first.relu(), activations), activations)
