"""Losses: functions of tensors that return a scalar. A loss never calls a network."""

from distill.losses.attention_transfer import AttentionTransfer, attention_transfer_loss
from distill.losses.binary_cross_entropy import BinaryCrossEntropy, binary_cross_entropy_loss
from distill.losses.binary_soft_targets import BinarySoftTargets, binary_soft_target_loss
from distill.losses.cross_entropy import CrossEntropy
from distill.losses.explanation import DISTANCES, ExplanationMatching, explanation_loss
from distill.losses.objective import (
    Losses,
    Objective,
    TermSchedule,
    WeightedTerm,
)
from distill.losses.registry import register_term, registered_terms
from distill.losses.soft_targets import SoftTargets, soft_target_loss
from distill.losses.term import ActivationPair, ComparedLayer, Needs, TermInputs, needs_of

__all__ = [
    "DISTANCES",
    "ActivationPair",
    "AttentionTransfer",
    "BinaryCrossEntropy",
    "BinarySoftTargets",
    "ComparedLayer",
    "CrossEntropy",
    "ExplanationMatching",
    "Losses",
    "Needs",
    "Objective",
    "SoftTargets",
    "TermInputs",
    "TermSchedule",
    "WeightedTerm",
    "attention_transfer_loss",
    "binary_cross_entropy_loss",
    "binary_soft_target_loss",
    "explanation_loss",
    "needs_of",
    "register_term",
    "registered_terms",
    "soft_target_loss",
]
