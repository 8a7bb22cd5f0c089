"""Class activation maps as differentiable functions of activations and gradients.

Convention:
    - ``activations`` are post-ReLU and have shape (N, K, *S): N samples, K channels and any number of spatial axes S,
      for images, clips or sequences. A position on the spatial axes is called a site.
    - ``gradients`` are the gradients of a logit (or a log-probability, but not a softmax output) with respect to the
      activations. They have the shape of the activations, or spatial axes of size 1 if the gradient is the same at
      every site, as below global average pooling.
    - Maps have shape (N, *S) and values of at least 0. They are not normalised, and float32 or float64. The map of a
      sample does not depend on the other samples.
    - Maps are differentiable with respect to both activations and gradients.

In the formulas, :math:`A_k` is channel k of the activations, :math:`g_k` of the gradients, and :math:`w_k` the weight
of the channel. Sums without an index are over the sites.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from distill.maps import at_least_float32


def cam(activations: Float[Tensor, "n k *s"], class_weights: Float[Tensor, "n k"]) -> Float[Tensor, "n *s"]:
    r"""Class activation map (CAM), for a head of global average pooling and one linear layer.

    .. math:: \mathrm{relu}\Big(\sum_k W_{ck} A_k\Big)

    Args:
        activations: Input of the global average pooling.
        class_weights: For each sample, the row :math:`W_c` of the linear layer for the explained class.

    Returns:
        Maps (N, *S). They equal those of :func:`grad_cam` times the number of sites.

    Raises:
        ValueError: If activations and class weights differ in the number of samples or channels.

    References:
        Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016.

    Example:
        >>> cam(torch.tensor([[[1.0, 2.0], [3.0, 0.0]]]), torch.tensor([[1.0, -1.0]]))
        tensor([[0., 2.]])
    """
    activations, class_weights = at_least_float32(activations), at_least_float32(class_weights)
    if class_weights.shape != activations.shape[:2]:
        raise ValueError(
            f"`class_weights` must be (samples, channels) = {tuple(activations.shape[:2])}, "
            f"got {tuple(class_weights.shape)}."
        )
    return weighted_sum(class_weights, activations)


def grad_cam(activations: Float[Tensor, "n k *s"], gradients: Float[Tensor, "n k ..."]) -> Float[Tensor, "n *s"]:
    r"""Grad-CAM: weight each channel by the mean of its gradient over the sites.

    .. math:: \mathrm{relu}\Big(\sum_k w_k A_k\Big),\qquad w_k = \mathrm{mean}(g_k)

    Args:
        activations: Post-ReLU activations of the layer.
        gradients: Gradients of the score with respect to the activations, or with spatial axes of size 1.

    Returns:
        Maps (N, *S).

    Raises:
        ValueError: If the shapes do not fit.

    References:
        Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks", ICCV 2017, eq. 1 and 2.

    Example:
        >>> grad_cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, 3.0]]]))
        tensor([[2., 4.]])
    """
    activations, gradients = check_shapes(activations, gradients)
    return weighted_sum(gradients.flatten(2).mean(2), activations)


def positive_grad_cam(
    activations: Float[Tensor, "n k *s"], gradients: Float[Tensor, "n k ..."]
) -> Float[Tensor, "n *s"]:
    r"""Positive-gradient Grad-CAM: weight each channel by the sum of its positive gradients.

    .. math:: \mathrm{relu}\Big(\sum_k w_k A_k\Big),\qquad w_k = \sum \mathrm{relu}(g_k)

    This is Grad-CAM++ with :math:`\alpha = 1`.

    Args:
        activations: Post-ReLU activations of the layer.
        gradients: Gradients of the score with respect to the activations, or with spatial axes of size 1.

    Returns:
        Maps (N, *S).

    Raises:
        ValueError: If the shapes do not fit.

    References:
        Lerma & Lucas, "Grad-CAM++ is Equivalent to Grad-CAM With Positive Gradients", arXiv 2205.10838.

    Example:
        >>> positive_grad_cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, -3.0]]]))
        tensor([[1., 2.]])
    """
    activations, gradients = check_shapes(activations, gradients)
    return weighted_sum(sum_over_sites(gradients.relu(), activations), activations)


def xgrad_cam(activations: Float[Tensor, "n k *s"], gradients: Float[Tensor, "n k ..."]) -> Float[Tensor, "n *s"]:
    r"""XGrad-CAM: weight each channel by the mean of its gradient, weighted by the activation.

    .. math:: \mathrm{relu}\Big(\sum_k w_k A_k\Big),\qquad w_k = \frac{\sum g_k A_k}{\sum A_k}

    Convention:
        - A channel that is zero everywhere has weight 0.
        - If the gradient is the same at every site, the map equals that of :func:`grad_cam`.

    Args:
        activations: Post-ReLU activations of the layer.
        gradients: Gradients of the score with respect to the activations, or with spatial axes of size 1.

    Returns:
        Maps (N, *S).

    Raises:
        ValueError: If the shapes do not fit.

    References:
        Fu et al., "Axiom-based Grad-CAM", BMVC 2020, arXiv 2008.02312.

    Example:
        >>> xgrad_cam(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[1.0, 2.0]]]))
        tensor([[1.7500, 5.2500]])
    """
    activations, gradients = check_shapes(activations, gradients)
    total = activations.flatten(2).sum(2)
    empty = total == 0
    weights = (gradients * activations).flatten(2).sum(2) / torch.where(empty, 1.0, total)
    return weighted_sum(torch.where(empty, 0.0, weights), activations)


def hires_cam(activations: Float[Tensor, "n k *s"], gradients: Float[Tensor, "n k ..."]) -> Float[Tensor, "n *s"]:
    r"""HiResCAM: multiply gradients and activations at each site.

    .. math:: \mathrm{relu}\Big(\sum_k g_k A_k\Big)

    Args:
        activations: Post-ReLU activations of the layer.
        gradients: Gradients of the score with respect to the activations, or with spatial axes of size 1.

    Returns:
        Maps (N, *S).

    Raises:
        ValueError: If the shapes do not fit.

    References:
        Draelos & Carin, "Use HiResCAM instead of Grad-CAM", arXiv 2011.08891.

    Example:
        >>> hires_cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, -3.0]]]))
        tensor([[1., 0.]])
    """
    activations, gradients = check_shapes(activations, gradients)
    return (gradients * activations).sum(1).relu()


def layer_cam(activations: Float[Tensor, "n k *s"], gradients: Float[Tensor, "n k ..."]) -> Float[Tensor, "n *s"]:
    r"""Layer-CAM: multiply positive gradients and activations at each site.

    .. math:: \mathrm{relu}\Big(\sum_k \mathrm{relu}(g_k) A_k\Big)

    Args:
        activations: Post-ReLU activations of the layer.
        gradients: Gradients of the score with respect to the activations, or with spatial axes of size 1.

    Returns:
        Maps (N, *S).

    Raises:
        ValueError: If the shapes do not fit.

    References:
        Jiang et al., "LayerCAM", IEEE Transactions on Image Processing 2021.

    Example:
        >>> layer_cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, -3.0]]]))
        tensor([[1., 0.]])
    """
    activations, gradients = check_shapes(activations, gradients)
    return (gradients.relu() * activations).sum(1).relu()


def activation_attention(activations: Float[Tensor, "n k *s"]) -> Float[Tensor, "n *s"]:
    r"""Activation attention: the sum of squared activations, which does not depend on a class.

    .. math:: \sum_k A_k^2

    Args:
        activations: Activations of the layer, of either sign.

    Returns:
        Maps (N, *S).

    Raises:
        ValueError: If the activations have no spatial axes.

    References:
        Zagoruyko & Komodakis, "Paying More Attention to Attention", ICLR 2017, arXiv 1612.03928.

    Example:
        >>> activation_attention(torch.tensor([[[1.0, 2.0], [3.0, 0.0]]]))
        tensor([[10.,  4.]])
    """
    activations, _ = check_shapes(activations, activations)
    return activations.square().sum(1)


def grad_cam_pp(activations: Float[Tensor, "n k *s"], gradients: Float[Tensor, "n k ..."]) -> Float[Tensor, "n *s"]:
    r"""Grad-CAM++ with the exponential score: weight each channel by a weighted sum of its positive gradients.

    .. math:: \mathrm{relu}\Big(\sum_k w_k A_k\Big),\qquad w_k = \sum \alpha_k\,\mathrm{relu}(g_k),\qquad
              \alpha_k = \frac{g_k^2}{2 g_k^2 + g_k^3 \sum A_k} = \frac{1}{2 + g_k \sum A_k}

    Convention:
        - The second form of alpha is computed. It equals the first where g is not 0. Where g is 0, the factor relu(g)
          is 0. It needs neither an epsilon nor the cube of g, which underflows in half precision.
        - The factor exp(score) of the whole map in the paper is left out.
        - With negative activations the denominator can reach 0; it is clamped at 1e-3. Use a post-ReLU layer.

    Args:
        activations: Post-ReLU activations of the layer.
        gradients: Gradients of the score with respect to the activations, or with spatial axes of size 1.

    Returns:
        Maps (N, *S).

    Raises:
        ValueError: If the shapes do not fit.

    References:
        Chattopadhyay et al., "Grad-CAM++", WACV 2018, arXiv 1710.11063, eq. 5, 19 and 20.

    Example:
        >>> grad_cam_pp(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, -3.0]]]))
        tensor([[0.2000, 0.4000]])
    """
    activations, gradients = check_shapes(activations, gradients)
    positive = gradients.relu()
    total = activations.flatten(2).sum(2)
    total = total.view(*total.shape, *[1] * (gradients.ndim - 2))
    # The clamp has no effect on post-ReLU activations: their denominator is at least 2.
    denominator = torch.addcmul(positive.new_full((), 2), positive, total).clamp(min=1e-3)
    return weighted_sum(sum_over_sites(positive / denominator, activations), activations)


def grad_cam_pp_signed(
    activations: Float[Tensor, "n k *s"], gradients: Float[Tensor, "n k ..."]
) -> Float[Tensor, "n *s"]:
    r"""Grad-CAM++ with gradients of both signs.

    .. math:: \mathrm{relu}\Big(\sum_k w_k A_k\Big),\qquad w_k = \sum \frac{g_k}{2 + g_k \sum A_k}

    Convention:
        - Where g is negative, the denominator can reach 0 or below, where the derivation in the paper does not hold.
          It is clamped at 1e-3.

    Args:
        activations: Post-ReLU activations of the layer.
        gradients: Gradients of the score with respect to the activations, or with spatial axes of size 1.

    Returns:
        Maps (N, *S).

    Raises:
        ValueError: If the shapes do not fit.

    References:
        Chattopadhyay et al., "Grad-CAM++", WACV 2018, arXiv 1710.11063, section 7.1.

    Example:
        >>> grad_cam_pp_signed(torch.tensor([[[0.2, 0.4]]]), torch.tensor([[[2.0, -1.0]]]))
        tensor([[0., 0.]])
    """
    activations, gradients = check_shapes(activations, gradients)
    total = activations.flatten(2).sum(2)
    denominator = (2 + gradients * total.view(*total.shape, *[1] * (gradients.ndim - 2))).clamp(min=1e-3)
    return weighted_sum(sum_over_sites(gradients / denominator, activations), activations)


def check_shapes(activations: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Check that the shapes fit, and return both tensors in float32 or float64."""
    if activations.ndim < 3:
        raise ValueError(
            f"`activations` must be (samples, channels, *sites), got {tuple(activations.shape)}: "
            "the layer has no spatial axes. Explain a layer before pooling or flattening."
        )
    constant_shape = (*activations.shape[:2], *[1] * (activations.ndim - 2))
    if gradients.shape != activations.shape and tuple(gradients.shape) != constant_shape:
        raise ValueError(
            f"`gradients` must have the shape of `activations`, {tuple(activations.shape)}, or {constant_shape} "
            f"if they are the same at every site; got {tuple(gradients.shape)}."
        )
    return at_least_float32(activations), at_least_float32(gradients)


def sum_over_sites(values: Tensor, like: Tensor) -> Tensor:
    """Sum over the sites of ``like``; values with spatial axes of size 1 are counted once per site."""
    repeats = math.prod(like.shape[2:]) // math.prod(values.shape[2:])
    return values.flatten(2).sum(2) * repeats


def weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """Return the ReLU of the weighted sum over the channels."""
    with torch.autocast(activations.device.type, enabled=False):
        flat = torch.bmm(weights[:, None], activations.flatten(2))[:, 0]
    return flat.relu().view(activations.shape[0], *activations.shape[2:])
