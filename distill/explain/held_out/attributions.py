"""`ATTRIBUTIONS`: the held-out explanation methods by name, and how their attributions are reduced to maps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

from distill.explain.held_out.gradient_based import (
    deconvolution,
    deep_lift,
    guided_backprop,
    guided_grad_cam,
    input_x_gradient,
    integrated_gradients,
    saliency,
    smooth_grad,
)
from distill.explain.held_out.perturbation_based import lime, occlusion, rise

Kind = Literal["sensitivity", "contribution"]


class Attribution(NamedTuple):
    """A held-out explanation method, for evaluation only.

    Convention:
        - A *sensitivity* is a gradient: its sign is the direction in which a pixel changes the score, not whether the
          pixel supports the class. Its map is the largest absolute value over the channels (Simonyan et al.).
        - A *contribution* is a share of the score. Its map is the ReLU of the sum over the channels, as for Grad-CAM:
          the evidence for the class.

    Args:
        function: The function from (network, images, classes) to attributions; its options are keyword arguments.
        kind: ``sensitivity`` or ``contribution``.
        formula: The formula of the map, where x is the image, b the baseline, and g the gradient of the logit with
            respect to the image.
        source: The publication.
        relus: Whether the method replaces the gradient of ReLUs.
        layered: Whether the method uses the Grad-CAM map of a layer.
    """

    function: Callable[..., Tensor]
    kind: Kind
    formula: str
    source: str
    relus: bool = False
    layered: bool = False

    @property
    def options(self) -> list[str]:
        """Names of the method's options."""
        parameters = inspect.signature(self.function).parameters.values()
        return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]

    def to_maps(self, attributions: Float[Tensor, "n c *s"]) -> Float[Tensor, "n *s"]:
        """Reduce the channels of attributions; the maps have values of at least 0.

        Example:
            >>> import torch
            >>> ATTRIBUTIONS["saliency"].to_maps(torch.tensor([[[1.0], [-3.0]]]))
            tensor([[3.]])
            >>> ATTRIBUTIONS["deep_lift"].to_maps(torch.tensor([[[1.0], [-3.0]]]))
            tensor([[0.]])
        """
        return attributions.abs().amax(1) if self.kind == "sensitivity" else attributions.sum(1).relu()


ATTRIBUTIONS: Mapping[str, Attribution] = {
    "saliency": Attribution(saliency, "sensitivity", "max_c |g_c|", "Simonyan et al., arXiv 1312.6034"),
    "smooth_grad": Attribution(
        smooth_grad, "sensitivity", "max_c |mean of g_c over noisy copies|", "Smilkov et al., arXiv 1706.03825"
    ),
    "guided_backprop": Attribution(
        guided_backprop,
        "sensitivity",
        "max_c |g_c|, where ReLUs pass back relu(g) if their input is positive",
        "Springenberg et al., arXiv 1412.6806",
        relus=True,
    ),
    "deconvolution": Attribution(
        deconvolution,
        "sensitivity",
        "max_c |g_c|, where ReLUs pass back relu(g)",
        "Zeiler & Fergus, ECCV 2014",
        relus=True,
    ),
    "guided_grad_cam": Attribution(
        guided_grad_cam,
        "sensitivity",
        "guided backpropagation x Grad-CAM of the layer",
        "Selvaraju et al., ICCV 2017",
        relus=True,
        layered=True,
    ),
    "input_x_gradient": Attribution(
        input_x_gradient, "contribution", "relu(sum_c x_c g_c)", "Shrikumar et al., arXiv 1605.01713"
    ),
    "integrated_gradients": Attribution(
        integrated_gradients,
        "contribution",
        "relu(sum_c (x_c - b_c) mean of g_c from b to x)",
        "Sundararajan et al., ICML 2017",
    ),
    "deep_lift": Attribution(
        deep_lift,
        "contribution",
        "relu(sum_c (x_c - b_c) m_c), m by the rescale rule",
        "Shrikumar et al., ICML 2017",
        relus=True,
    ),
    "lime": Attribution(lime, "contribution", "relu(ridge weight of the patch)", "Ribeiro et al., KDD 2016"),
    "occlusion": Attribution(
        occlusion, "contribution", "relu(mean decrease of the logit under a window)", "Zeiler & Fergus, ECCV 2014"
    ),
    "rise": Attribution(rise, "contribution", "sum_m p(x M_m) M_m / (masks E[M])", "Petsiuk et al., BMVC 2018"),
}
