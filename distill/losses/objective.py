"""The objective: the weighted sum of named terms, and the schedule of a term's weight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill.losses.failure import TermError, describe_failure
from distill.losses.term import ActivationPair, ComparedLayer, TermInputs, needs_of
from distill.models.layouts import read_maps
from distill.types import MapPair, Mix, StagedOutput


@dataclass(frozen=True)
class TermSchedule:
    """Factor on the weight of a term in the course of a run.

    Args:
        every: The term is computed in every K-th step, starting with step 0; its weight is not raised to compensate.
        start_epoch: The factor is 0 before this epoch, counted from 0; fractions are allowed.
        ramp_epochs: Number of epochs after ``start_epoch`` over which the factor rises linearly from 0 to 1.

    Raises:
        ValueError: if an argument is out of range.

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
        """Return the factor at an epoch, which may be a fraction, and a step of the run."""
        if step % self.every or epoch < self.start_epoch:
            return 0.0
        if self.ramp_epochs == 0:
            return 1.0
        return min((epoch - self.start_epoch) / self.ramp_epochs, 1.0)


class WeightedTerm(NamedTuple):
    """A term, its weight, and the layers that it compares, by layer of the student."""

    weight: float
    term: nn.Module
    layers: Mapping[str, ComparedLayer] = MappingProxyType({})


class Losses(NamedTuple):
    """The total, and each term by name, before and after multiplication by its weight and factor."""

    total: Float[Tensor, ""]
    raw: dict[str, Float[Tensor, ""]]
    weighted: dict[str, Float[Tensor, ""]]


class Objective(nn.Module):
    """Weighted sum of terms.

    Convention:
        - Weights are independent; they need not sum to 1.
        - A term of weight 0 is dropped: neither the term nor its inputs are computed. A term whose factor is 0 is
          skipped in that step.
        - A term receives what its class attributes declare, see :func:`distill.losses.needs_of`.

    Args:
        terms: Terms by name; the names are used in the log.

    Raises:
        ValueError: if no term has a weight above 0, a weight is negative or not finite, or a name cannot be used.

    Example:
        >>> from distill.losses import CrossEntropy
        >>> objective = Objective({"cross_entropy": WeightedTerm(0.5, CrossEntropy())})
        >>> objective(StagedOutput(torch.zeros(1, 2)), None, {}, torch.tensor([0])).total
        tensor(0.3466)
    """

    def __init__(self, terms: Mapping[str, WeightedTerm]) -> None:
        super().__init__()
        wrong = {name: term.weight for name, term in terms.items() if not 0 <= term.weight < math.inf}
        if wrong:
            raise ValueError(f"every weight must be a finite number, 0 or above; got {wrong}.")
        self.weights = {name: term.weight for name, term in terms.items() if term.weight > 0}
        if not self.weights:
            raise ValueError("the objective needs a term with a weight above 0.")
        for name in self.weights:
            if "." in name or name == "loss" or hasattr(nn.ModuleDict(), name):
                raise ValueError(f"a term cannot have the name {name!r}; choose another one.")
        self.layers = {name: dict(terms[name].layers) for name in self.weights}
        self.terms = nn.ModuleDict({name: terms[name].term for name in self.weights})

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the terms with a weight above 0."""
        return tuple(self.weights)

    def layers_to_read(self, role: Literal["student", "teacher"], names: Iterable[str]) -> list[str]:
        """Return the layers of the student or of the teacher whose activations the named terms need."""
        layers: list[str] = []
        for name in names:
            needs = needs_of(self.terms[name])
            if needs.activations and role == "student":
                layers += self.layers[name]
            elif needs.activations and needs.teacher:
                layers += [layer.teacher for layer in self.layers[name].values()]
        return layers

    def forward(
        self,
        student: StagedOutput,
        teacher: StagedOutput | None,
        maps: Mapping[str, Mapping[str, MapPair]],
        labels: Int[Tensor, " n"],
        factors: Mapping[str, float] | None = None,
        mix: Mix | None = None,
    ) -> Losses:
        """Compute every term and their weighted sum.

        Args:
            student: The student's forward pass.
            teacher: The teacher's forward pass, if a term needs it.
            maps: Raw maps by layer of the student, under the name of the term that needs them.
            labels: Class of each sample.
            factors: Factors on the weights, by name of the term; 1 for a term that is not named.
            mix: The second classes of mixed images, and the shares.

        Raises:
            ValueError: if a term returns no scalar.
            TermError: if a third-party term raises an exception.
        """
        active = {name: factor for name in self.names if (factor := (factors or {}).get(name, 1.0)) > 0}
        raw = {name: self.value(name, student, teacher, maps.get(name), labels, mix) for name in active}
        weighted = {name: self.weights[name] * factor * raw[name] for name, factor in active.items()}
        zero = student.logits.float().sum() * 0.0  # keeps the graph in a step in which no term is computed
        return Losses(torch.stack(list(weighted.values())).sum() if weighted else zero, raw, weighted)

    def value(
        self,
        name: str,
        student: StagedOutput,
        teacher: StagedOutput | None,
        maps: Mapping[str, MapPair] | None,
        labels: Int[Tensor, " n"],
        mix: Mix | None = None,
    ) -> Float[Tensor, ""]:
        """Compute one term, before multiplication by its weight.

        Raises:
            ValueError: if it returns no scalar.
            TermError: if a third-party term raises an exception.
        """
        term, layers = self.terms[name], self.layers[name]
        needs = needs_of(term)
        teacher = teacher if needs.teacher else None
        activations = {
            layer: ActivationPair(
                read_maps(student, layer, other.layout).activations,
                read_maps(teacher, other.teacher, other.teacher_layout).activations if teacher else None,
            )
            for layer, other in (layers.items() if needs.activations else ())
        }
        weights = {layer: other.weight for layer, other in layers.items()}
        inputs = TermInputs(student, teacher, labels, maps, activations, weights, mix)
        try:
            value = term(inputs)
        except Exception as error:
            if type(term).__module__.startswith("distill."):
                raise
            raise TermError(f"objective.{name}: {describe_failure(term, error, inputs)}") from error
        if not isinstance(value, Tensor) or value.ndim > 0 or not value.is_floating_point():
            got = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{type(term).__name__}.forward must return a floating-point scalar tensor, got {got}.")
        return value
