"""Losses: from tensors to one number. They never call a model."""

from distill.losses.attention_transfer import AttentionTransfer, attention_transfer_loss
from distill.losses.cross_entropy import CrossEntropy
from distill.losses.explanation import DISTANCES, ExplanationMatching, explanation_loss
from distill.losses.objective import (
    TERMS,
    Losses,
    Objective,
    TermSchedule,
    WeightedTerm,
)
from distill.losses.soft_targets import SoftTargets, soft_target_loss
from distill.losses.term import TermInputs

__all__ = [
    "DISTANCES",
    "TERMS",
    "AttentionTransfer",
    "CrossEntropy",
    "ExplanationMatching",
    "Losses",
    "Objective",
    "SoftTargets",
    "TermInputs",
    "TermSchedule",
    "WeightedTerm",
    "attention_transfer_loss",
    "explanation_loss",
    "soft_target_loss",
]
