"""Explanations: from activations and gradients to maps, differentiable throughout."""

from distill.explain.cam import (
    METHODS,
    Method,
    activation_attention,
    cam,
    grad_cam,
    grad_cam_pp,
    grad_cam_pp_signed,
    grad_cam_pp_softmax,
    hires_cam,
    layer_cam,
    positive_grad_cam,
    xgrad_cam,
)
from distill.explain.explainer import Explainer, Explanation, PairExplainer, warn_if_signed
from distill.explain.gradients import Score, Target, choose_score, closed_form, score_gradients, through_head
from distill.explain.held_out import ATTRIBUTIONS, Attribution

__all__ = [
    "ATTRIBUTIONS",
    "METHODS",
    "Attribution",
    "Explainer",
    "Explanation",
    "Method",
    "PairExplainer",
    "Score",
    "Target",
    "activation_attention",
    "cam",
    "choose_score",
    "closed_form",
    "grad_cam",
    "grad_cam_pp",
    "grad_cam_pp_signed",
    "grad_cam_pp_softmax",
    "hires_cam",
    "layer_cam",
    "positive_grad_cam",
    "score_gradients",
    "through_head",
    "warn_if_signed",
    "xgrad_cam",
]
