"""`METHODS`: the differentiable explanation methods by name, with what each of them needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from torch import Tensor

from distill.explain.cam import (
    activation_attention,
    cam,
    grad_cam,
    grad_cam_pp,
    grad_cam_pp_signed,
    hires_cam,
    layer_cam,
    positive_grad_cam,
    xgrad_cam,
)
from distill.explain.softmax_score import grad_cam_pp_softmax

Needs = Literal["activations", "class_weights", "gradients", "all_gradients"]


class Method(NamedTuple):
    """An explanation method.

    Args:
        function: The function that computes the maps.
        needs: The further inputs of the function: none (``activations``), the row of the linear layer for the class
            (``class_weights``), the gradient of the score (``gradients``), or the gradients of all logits, the logits
            and the class (``all_gradients``).
        formula: The formula of the map or of its channel weights.
        source: The publication.
    """

    function: Callable[..., Tensor]
    needs: Needs
    formula: str
    source: str

    @property
    def class_specific(self) -> bool:
        """Whether the map depends on the explained class."""
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
