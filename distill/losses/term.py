"""What a term may look at: outputs that were already computed, never a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.types import MapPair, StagedOutput


class TermInputs(NamedTuple):
    """One training step, as a term sees it; ``maps`` are the raw maps that this term asked for, by student's layer."""

    student: StagedOutput
    teacher: StagedOutput | None
    labels: Int[Tensor, " n"]
    maps: Mapping[str, MapPair] | None = None


def require_teacher(inputs: TermInputs, term: str) -> StagedOutput:
    """Give the teacher's output, or say which term missed it."""
    if inputs.teacher is None:
        raise ValueError(f"term {term!r} needs a teacher.")
    return inputs.teacher


def sum_over_layers(
    inputs: TermInputs,
    compare: Callable[[Tensor, Tensor], Tensor],
    *,
    layers: Mapping[str, float] | None,
    term: str,
) -> Float[Tensor, ""]:
    """Compare the maps of every layer and add up the weighted losses.

    Args:
        inputs: The step, with maps at exactly these layers.
        compare: The student's and the teacher's maps to one number.
        layers: Weight of each layer of the student; 1 for every layer that has maps if left out.
        term: Its name, for the message.

    Raises:
        ValueError: if there are other maps.
    """
    maps = inputs.maps or {}
    layers = dict.fromkeys(maps, 1.0) if layers is None else layers
    if not maps or maps.keys() != layers.keys():
        wanted = ", ".join(layers) or "a layer"
        raise ValueError(f"term {term!r} needs maps of student and teacher at {wanted}, got {list(maps)}.")
    return torch.stack([weight * compare(*maps[layer]) for layer, weight in layers.items()]).sum()
