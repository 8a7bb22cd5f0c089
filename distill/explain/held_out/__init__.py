"""Held-out explanation methods, for evaluation only: they perturb the images or compute gradients of the images.

A student that was trained to match the teacher's Grad-CAM++ maps agrees with the teacher under Grad-CAM++. Only a
method that was not used in training tests whether the student learnt the teacher's reasons or merely fitted these maps.
"""

from distill.explain.held_out.attributions import ATTRIBUTIONS, Attribution
from distill.explain.held_out.held_out import HeldOut, check_options, evaluation_only_message
from distill.explain.held_out.perturbation_based import rise_masks

__all__ = ["ATTRIBUTIONS", "Attribution", "HeldOut", "check_options", "evaluation_only_message", "rise_masks"]
