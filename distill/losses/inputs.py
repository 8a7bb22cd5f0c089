"""What a term may look at: outputs that were already computed, never a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor

from distill.types import MapPair, StagedOutput


class TermInputs(NamedTuple):
    """One training step, as a term sees it; ``maps`` are the raw maps that this term asked for, by student's layer."""

    student: StagedOutput
    teacher: StagedOutput | None
    labels: Int[Tensor, " n"]
    maps: Mapping[str, MapPair] | None = None


def needs_teacher(inputs: TermInputs, term: str) -> StagedOutput:
    """Give the teacher's output, or say which term missed it."""
    if inputs.teacher is None:
        raise ValueError(f"term {term!r} needs a teacher.")
    return inputs.teacher
