"""Held-out explainers: for evaluation only, by perturbing the images or by gradients that reach the images.

A student that was trained to match the teacher's Grad-CAM++ maps agrees with it under Grad-CAM++. Whether it learnt the
teacher's reasons or only fitted the term shows under an explainer that training never used.
"""

from distill.explain.held_out.attributions import ATTRIBUTIONS, Attribution
from distill.explain.held_out.held_out import HeldOut, check_options, evaluation_only_message
from distill.explain.held_out.perturbation_based import rise_masks

__all__ = ["ATTRIBUTIONS", "Attribution", "HeldOut", "check_options", "evaluation_only_message", "rise_masks"]
