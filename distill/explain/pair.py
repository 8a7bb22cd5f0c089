"""Student and teacher explained side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from jaxtyping import Int
from torch import Tensor

from distill.explain.explainer import Explainer, one_of
from distill.types import MapPair, StagedOutput

ClassPolicy = Literal["label", "teacher", "student"]


@dataclass(frozen=True)
class PairExplainer:
    """Explain the same class in a student and in its teacher, out of forward passes that were already made.

    Args:
        student: How the student is explained; its maps are differentiable.
        teacher: How the teacher is; nothing flows into it.
        policy: Which class: the ``label``, or the first choice of the ``teacher`` or of the ``student``.
    """

    student: Explainer
    teacher: Explainer
    policy: ClassPolicy = "label"

    def __post_init__(self) -> None:
        one_of("target", self.policy, get_args(ClassPolicy))

    def from_outputs(
        self, student: StagedOutput, teacher: StagedOutput, labels: Int[Tensor, " n"], *, create_graph: bool
    ) -> MapPair:
        """Give the raw maps of both."""
        target = self.choose(student, teacher, labels)
        return MapPair(
            self.student.from_output(student, target, create_graph=create_graph),
            self.teacher.from_output(teacher, target),
        )

    def choose(self, student: StagedOutput, teacher: StagedOutput, labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Choose the class that is explained."""
        if self.policy == "label":
            return labels
        return (teacher if self.policy == "teacher" else student).logits.argmax(1)
