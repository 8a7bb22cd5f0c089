"""Explanations: from activations and gradients to maps, differentiable throughout."""

from distill.explain.cam import cam, grad_cam, grad_cam_pp, positive_grad_cam
from distill.explain.explainer import METHODS, Explainer, Explanation, PairExplainer
from distill.explain.gradients import closed_form, score_gradients, through_head

__all__ = [
    "METHODS",
    "Explainer",
    "Explanation",
    "PairExplainer",
    "cam",
    "closed_form",
    "grad_cam",
    "grad_cam_pp",
    "positive_grad_cam",
    "score_gradients",
    "through_head",
]
