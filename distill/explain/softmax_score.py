"""Grad-CAM++ with the softmax probability as the explained score; for conventions see :mod:`distill.explain.cam`."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.explain.cam import check_shapes, sum_over_sites, weighted_sum
from distill.maps import at_least_float32


def grad_cam_pp_softmax(
    activations: Float[Tensor, "n k *s"],
    gradients: Float[Tensor, "n classes k ..."],
    logits: Float[Tensor, "n classes"],
    target: Int[Tensor, " n"],
) -> Float[Tensor, "n *s"]:
    r"""Grad-CAM++ with the derivatives of the softmax probability of the target class.

    Let :math:`p` be the probabilities, :math:`D = g_c - \bar g` with :math:`\bar g = \sum_j p_j g_j`, and :math:`V` and
    :math:`M` the second and third central moments of :math:`g` under :math:`p`. If the head is linear around the
    activations, the derivatives of the score :math:`Y` are

    .. math:: Y_1 = Y D,\quad Y_2 = Y (D^2 - V),\quad Y_3 = Y (D^3 - 3 D V - M),\qquad
              \alpha = \frac{Y_2}{2 Y_2 + Y_3 \sum A_k},\quad w_k = \sum \alpha\,\mathrm{relu}(D).

    Convention:
        - The factor Y of the whole map is left out. Where the two terms of the denominator cancel, alpha is 0.

    Args:
        activations: Post-ReLU activations of the layer.
        gradients: Gradients of every logit (N, classes, K, *S), or with spatial axes of size 1.
        logits: Logits of the network.
        target: The explained class of each sample.

    Returns:
        Maps (N, *S).

    Raises:
        ValueError: If the shapes do not fit.

    References:
        Chattopadhyay et al., "Grad-CAM++", WACV 2018, arXiv 1710.11063, eq. 21 to 24.

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
    activations, target_gradients = check_shapes(activations, gradients[rows, target])
    gradients = at_least_float32(gradients)
    probabilities = at_least_float32(logits).softmax(1).view(*logits.shape, *[1] * (gradients.ndim - 2))
    # Differences to the gradient of the target, and division by the second derivative, avoid cancellation where the
    # probability is near 1.
    differences = gradients - target_gradients[:, None]
    first = -(probabilities * differences).sum(1)
    centred = differences + first[:, None]
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
