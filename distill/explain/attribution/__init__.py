"""Held-out explainers: maps that no term trains on, from changed images or gradients that reach the images.

A student that was trained to have the teacher's Grad-CAM++ maps agrees with it under Grad-CAM++. Whether it learnt the
teacher's reasons or fitted the term shows under an explainer that the training never saw.
"""

from distill.explain.attribution.held_out import HeldOut, check_options, evaluation_only
from distill.explain.attribution.methods import ATTRIBUTIONS, Attribution
from distill.explain.attribution.rise import rise_masks

__all__ = ["ATTRIBUTIONS", "Attribution", "HeldOut", "check_options", "evaluation_only", "rise_masks"]
