"""The family of class activation maps as pure, differentiable functions of activations and gradients.

Convention:
    - ``activations`` are post-ReLU, (N, K, *S), with S of any rank: images, clips, sequences.
    - ``gradients`` are of a logit (or a log-probability) with respect to them, never of a softmax output. Spatial
      axes of size 1 stand for a gradient that is the same at every site, as below global average pooling.
    - Maps are (N, *S), not negative, not normalised, float32 or wider, and each depends on its own sample alone.
    - Gradients flow through the channel weights as well as through the activations.

References:
    - CAM: Zhou et al., CVPR 2016. Grad-CAM: Selvaraju et al., ICCV 2017.
    - Grad-CAM++: Chattopadhyay et al., WACV 2018, arXiv 1710.11063, eq. 5, 19 and 20.
    - Positive-gradient Grad-CAM: Lerma & Lucas, arXiv 2205.10838.
    - XGrad-CAM: Fu et al., BMVC 2020, arXiv 2008.02312. HiResCAM: Draelos & Carin, arXiv 2011.08891.
    - Layer-CAM: Jiang et al., IEEE TIP 2021. Activation attention: Zagoruyko & Komodakis, ICLR 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


def cam(activations: Float[Tensor, "n k *s"], class_weights: Float[Tensor, "n k"]) -> Float[Tensor, "n *s"]:
    r"""Class activation map, :math:`\mathrm{relu}(\sum_k W_{ck} A_k)`, of a head that is pooling and a linear layer.

    Args:
        activations: What is pooled.
        class_weights: A row of the linear layer for every sample: its class's.

    Returns:
        Maps; as many sites times as large as those of :func:`grad_cam`.

    Raises:
        ValueError: if the channels differ.

    Example:
        >>> cam(torch.tensor([[[1.0, 2.0], [3.0, 0.0]]]), torch.tensor([[1.0, -1.0]]))
        tensor([[0., 2.]])
    """
    activations, class_weights = wide(activations), wide(class_weights)
    if class_weights.shape != activations.shape[:2]:
        raise ValueError(
            f"`class_weights` must be (samples, channels) = {tuple(activations.shape[:2])}, "
            f"got {tuple(class_weights.shape)}."
        )
    return weighted_sum(class_weights, activations)


def grad_cam(activations: Float[Tensor, "n k *s"], gradients: Float[Tensor, "n k ..."]) -> Float[Tensor, "n *s"]:
    r"""Grad-CAM, :math:`\mathrm{relu}(\sum_k w_k A_k)` with :math:`w_k` the mean of the gradient over the sites.

    Example:
        >>> grad_cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, 3.0]]]))
        tensor([[2., 4.]])
    """
    activations, gradients = check_shapes(activations, gradients)
    return weighted_sum(gradients.flatten(2).mean(2), activations)


def positive_grad_cam(
    activations: Float[Tensor, "n k *s"], gradients: Float[Tensor, "n k ..."]
) -> Float[Tensor, "n *s"]:
    r"""Positive-gradient Grad-CAM, with :math:`w_k = \sum \mathrm{relu}(g_k)`: what Grad-CAM++ is without its alpha.

    Example:
        >>> positive_grad_cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, -3.0]]]))
        tensor([[1., 2.]])
    """
    activations, gradients = check_shapes(activations, gradients)
    return weighted_sum(sum_over_sites(gradients.relu(), activations), activations)


def xgrad_cam(activations: Float[Tensor, "n k *s"], gradients: Float[Tensor, "n k ..."]) -> Float[Tensor, "n *s"]:
    r"""XGrad-CAM, with :math:`w_k = \sum g_k A_k / \sum A_k`: the gradient's mean, weighted by the activation.

    Convention:
        - A channel that is zero everywhere has weight 0. With a gradient that is the same at every site, the weight is
          that gradient, and the map is Grad-CAM's.

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
    r"""HiResCAM, :math:`\mathrm{relu}(\sum_k g_k A_k)` site by site.

    Example:
        >>> hires_cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, -3.0]]]))
        tensor([[1., 0.]])
    """
    activations, gradients = check_shapes(activations, gradients)
    return (gradients * activations).sum(1).relu()


def layer_cam(activations: Float[Tensor, "n k *s"], gradients: Float[Tensor, "n k ..."]) -> Float[Tensor, "n *s"]:
    r"""Layer-CAM, :math:`\mathrm{relu}(\sum_k \mathrm{relu}(g_k) A_k)` site by site.

    Example:
        >>> layer_cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, -3.0]]]))
        tensor([[1., 0.]])
    """
    activations, gradients = check_shapes(activations, gradients)
    return (gradients.relu() * activations).sum(1).relu()


def activation_attention(activations: Float[Tensor, "n k *s"]) -> Float[Tensor, "n *s"]:
    r"""Activation attention, :math:`\sum_k A_k^2`: where the layer is active, whatever the class.

    Example:
        >>> activation_attention(torch.tensor([[[1.0, 2.0], [3.0, 0.0]]]))
        tensor([[10.,  4.]])
    """
    activations, _ = check_shapes(activations, activations)
    return activations.square().sum(1)


def grad_cam_pp(activations: Float[Tensor, "n k *s"], gradients: Float[Tensor, "n k ..."]) -> Float[Tensor, "n *s"]:
    r"""Grad-CAM++ of the exponential score.

    .. math:: \alpha = \frac{g^2}{2 g^2 + g^3 \sum A_k} = \frac{1}{2 + g \sum A_k},\qquad
              w_k = \sum \alpha\,\mathrm{relu}(g),\qquad \mathrm{relu}(\sum_k w_k A_k)

    Convention:
        - The second form of alpha is used: it is the first wherever g is not 0, and where g is 0 its factor
          relu(g) is. It needs no epsilon, and no cube that half precision would lose.
        - exp(score), a factor of the whole map in the paper, is left out.
        - Signed activations can bring the denominator to 0; it is then held at 1e-3. Explain a post-ReLU layer.

    Example:
        >>> grad_cam_pp(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, -3.0]]]))
        tensor([[0.2000, 0.4000]])
    """
    activations, gradients = check_shapes(activations, gradients)
    positive = gradients.relu()
    total = activations.flatten(2).sum(2)
    total = total.view(*total.shape, *[1] * (gradients.ndim - 2))
    # Where the sum is negative the denominator falls below 2; post-ReLU activations never take this branch.
    denominator = torch.addcmul(positive.new_full((), 2), positive, total).clamp(min=1e-3)
    return weighted_sum(sum_over_sites(positive / denominator, activations), activations)


def grad_cam_pp_signed(
    activations: Float[Tensor, "n k *s"], gradients: Float[Tensor, "n k ..."]
) -> Float[Tensor, "n *s"]:
    r"""Grad-CAM++ with gradients of either sign, :math:`w_k = \sum \alpha g` (section 7.1 of the paper).

    Convention:
        - Where g is negative, :math:`2 + g \sum A_k` can fall to 0 and below, where the paper's expansion means
          nothing; it is held at 1e-3 there.

    Example:
        >>> grad_cam_pp_signed(torch.tensor([[[0.2, 0.4]]]), torch.tensor([[[2.0, -1.0]]]))
        tensor([[0., 0.]])
    """
    activations, gradients = check_shapes(activations, gradients)
    total = activations.flatten(2).sum(2)
    denominator = (2 + gradients * total.view(*total.shape, *[1] * (gradients.ndim - 2))).clamp(min=1e-3)
    return weighted_sum(sum_over_sites(gradients / denominator, activations), activations)


def wide(x: Tensor) -> Tensor:
    """Give float32 or wider."""
    return x if x.dtype == torch.float64 else x.float()


def check_shapes(activations: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """See that the shapes fit, and widen both."""
    if activations.ndim < 3:
        raise ValueError(
            f"`activations` must be (samples, channels, *sites), got {tuple(activations.shape)}: "
            "the layer has no spatial extent; explain one before it is pooled or flattened."
        )
    constant = (*activations.shape[:2], *[1] * (activations.ndim - 2))
    if gradients.shape != activations.shape and tuple(gradients.shape) != constant:
        raise ValueError(
            f"`gradients` must have the shape of `activations`, {tuple(activations.shape)}, or {constant} "
            f"if they are the same at every site; got {tuple(gradients.shape)}."
        )
    return wide(activations), wide(gradients)


def sum_over_sites(values: Tensor, like: Tensor) -> Tensor:
    """Sum over the sites of ``like``; a value with spatial axes of size 1 counts at each."""
    repeats = math.prod(like.shape[2:]) // math.prod(values.shape[2:])
    return values.flatten(2).sum(2) * repeats


def weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """Sum the channels by weight and keep what is positive."""
    with torch.autocast(activations.device.type, enabled=False):
        flat = torch.bmm(weights[:, None], activations.flatten(2))[:, 0]
    return flat.relu().view(activations.shape[0], *activations.shape[2:])


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
    activations, own = check_shapes(activations, gradients[rows, target])
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


Needs = Literal["activations", "class_weights", "gradients", "all_gradients"]


class Method(NamedTuple):
    """One way to make a map.

    Args:
        function: The pure function.
        needs: What it takes besides activations: nothing, the class's row of the linear layer, the gradient of the
            score, or the gradients of all logits with logits and class.
        formula: How it is written.
        source: Where it comes from.
    """

    function: Callable[..., Tensor]
    needs: Needs
    formula: str
    source: str

    @property
    def class_specific(self) -> bool:
        """Whether another class has another map."""
        return self.needs != "activations"


METHODS: Mapping[str, Method] = {
    "cam": Method(cam, "class_weights", "relu(sum_k W_ck A_k)", "Zhou et al., CVPR 2016"),
    "grad_cam": Method(grad_cam, "gradients", "relu(sum_k w_k A_k), w_k = mean(g_k)", "Selvaraju et al., ICCV 2017"),
    "positive_grad_cam": Method(
        positive_grad_cam, "gradients", "w_k = sum(relu(g_k))", "Lerma & Lucas, arXiv 2205.10838"
    ),
    "grad_cam_pp": Method(
        grad_cam_pp,
        "gradients",
        "w_k = sum(relu(g_k) / (2 + g_k sum(A_k)))",
        "Chattopadhyay et al., WACV 2018, eq. 19",
    ),
    "grad_cam_pp_signed": Method(
        grad_cam_pp_signed,
        "gradients",
        "w_k = sum(g_k / (2 + g_k sum(A_k)))",
        "Chattopadhyay et al., WACV 2018, section 7.1",
    ),
    "grad_cam_pp_softmax": Method(
        grad_cam_pp_softmax,
        "all_gradients",
        "w_k = sum(alpha relu(D)), derivatives of the probability",
        "Chattopadhyay et al., WACV 2018, eq. 21-24",
    ),
    "xgrad_cam": Method(xgrad_cam, "gradients", "w_k = sum(g_k A_k) / sum(A_k)", "Fu et al., BMVC 2020"),
    "hires_cam": Method(hires_cam, "gradients", "relu(sum_k g_k A_k), by site", "Draelos & Carin, arXiv 2011.08891"),
    "layer_cam": Method(layer_cam, "gradients", "relu(sum_k relu(g_k) A_k), by site", "Jiang et al., TIP 2021"),
    "activation_attention": Method(
        activation_attention, "activations", "sum_k A_k^2", "Zagoruyko & Komodakis, ICLR 2017"
    ),
}
