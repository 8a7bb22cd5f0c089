"""The objective: named, weighted terms -> one number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill.losses.attention_transfer import AttentionTransfer
from distill.losses.cross_entropy import CrossEntropy
from distill.losses.explanation import ExplanationMatching
from distill.losses.inputs import TermInputs
from distill.losses.soft_targets import SoftTargets
from distill.types import MapPair, StagedOutput

#: Term by name, as a configuration gives it.
TERMS: Mapping[str, Callable[..., nn.Module]] = {
    "cross_entropy": CrossEntropy,
    "soft_targets": SoftTargets,
    "explanation": ExplanationMatching,
    "attention_transfer": AttentionTransfer,
}


class WeightedTerm(NamedTuple):
    """A term and what it counts for."""

    weight: float
    term: nn.Module


class Losses(NamedTuple):
    """The total, and every term by name as it is and times its weight."""

    total: Float[Tensor, ""]
    raw: dict[str, Float[Tensor, ""]]
    weighted: dict[str, Float[Tensor, ""]]


class Objective(nn.Module):
    """Weighted sum of terms.

    Convention:
        - Weights are explicit and independent; they need not sum to 1.
        - A term of weight 0 is left out: it is not computed, nor is what it would need. So is, for the step, a term
          whose factor is 0.

    Args:
        terms: By name; the names are those of the log.

    Raises:
        ValueError: if no term has a weight, or a weight is negative or not finite.

    Example:
        >>> objective = Objective({"cross_entropy": WeightedTerm(0.5, CrossEntropy())})
        >>> objective(StagedOutput(torch.zeros(1, 2)), None, {}, torch.tensor([0])).total
        tensor(0.3466)
    """

    def __init__(self, terms: Mapping[str, WeightedTerm]) -> None:
        super().__init__()
        wrong = {name: weight for name, (weight, _) in terms.items() if not 0 <= weight < math.inf}
        if wrong:
            raise ValueError(f"every weight must be a finite number, 0 or above; got {wrong}.")
        self.weights = {name: weight for name, (weight, _) in terms.items() if weight > 0}
        if not self.weights:
            raise ValueError("the objective needs a term with a weight above 0.")
        self.terms = nn.ModuleDict({name: terms[name].term for name in self.weights})

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the terms that count."""
        return tuple(self.weights)

    def forward(
        self,
        student: StagedOutput,
        teacher: StagedOutput | None,
        maps: Mapping[str, Mapping[str, MapPair]],
        labels: Int[Tensor, " n"],
        factors: Mapping[str, float] | None = None,
    ) -> Losses:
        """Compute every term and their weighted sum.

        Args:
            student: The student's forward pass.
            teacher: The teacher's, if there is one.
            maps: Raw maps by student's layer, under the name of the term that asked for them.
            labels: Class of every sample.
            factors: On the weights, by name of the term; 1 where there is none.
        """
        active = {name: factor for name in self.names if (factor := (factors or {}).get(name, 1.0)) > 0}
        raw = {name: self.terms[name](TermInputs(student, teacher, labels, maps.get(name))) for name in active}
        weighted = {name: self.weights[name] * factor * raw[name] for name, factor in active.items()}
        nothing = student.logits.float().sum() * 0.0  # where no term counts, the step still has a graph
        return Losses(torch.stack(list(weighted.values())).sum() if weighted else nothing, raw, weighted)
