"""Explanation maps of networks: differentiable methods for training, and held-out methods for evaluation."""

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
from distill.explain.explainer import Explainer, Explanation, PairExplainer, warn_if_signed
from distill.explain.gradients import Score, Target, choose_score, closed_form, score_gradients, through_head
from distill.explain.held_out import ATTRIBUTIONS, Attribution
from distill.explain.methods import METHODS, Method
from distill.explain.softmax_score import grad_cam_pp_softmax

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
