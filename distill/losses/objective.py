"""The objective: named, weighted, scheduled terms, added up to one number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill.losses.attention_transfer import AttentionTransfer
from distill.losses.cross_entropy import CrossEntropy
from distill.losses.explanation import ExplanationMatching
from distill.losses.soft_targets import SoftTargets
from distill.losses.term import TermInputs
from distill.types import MapPair, StagedOutput


@dataclass(frozen=True)
class TermSchedule:
    """A factor on the weight of a term over a run.

    Args:
        every: The term counts in every K-th step only, from step 0; its weight is not raised for that.
        start_epoch: Nothing before this epoch (counted from 0, fractions allowed).
        ramp_epochs: From there the factor rises linearly from 0 to 1 over so many epochs.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> schedule = TermSchedule(start_epoch=2.0, ramp_epochs=4.0)
        >>> [schedule.factor(epoch=epoch, step=0) for epoch in (1.9, 2.0, 3.0, 6.0, 9.0)]
        [0.0, 0.0, 0.25, 1.0, 1.0]
    """

    every: int = 1
    start_epoch: float = 0.0
    ramp_epochs: float = 0.0

    def __post_init__(self) -> None:
        if self.every < 1 or self.start_epoch < 0 or self.ramp_epochs < 0:
            raise ValueError(f"`every` must be at least 1, the epochs at least 0; got {self}.")

    def factor(self, *, epoch: float, step: int) -> float:
        """Give the factor at an epoch, fractions included, and a step of the run."""
        if step % self.every or epoch < self.start_epoch:
            return 0.0
        if self.ramp_epochs == 0:
            return 1.0
        return min((epoch - self.start_epoch) / self.ramp_epochs, 1.0)


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
