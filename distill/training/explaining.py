"""The maps of a step: those that each active term asked for."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from distill.explain import PairExplainer
from distill.training.frozen_maps import FrozenMaps
from distill.training.teacher_cache import MapKind
from distill.types import Batch, MapPair, StagedOutput

Explainers = Mapping[str, Mapping[str, PairExplainer]]


def explain(
    explainers: Explainers,
    student: StagedOutput,
    teacher: StagedOutput | None,
    batch: Batch,
    frozen: Mapping[str, FrozenMaps] | None = None,
    stored: Mapping[MapKind, Tensor] | None = None,
) -> dict[str, dict[str, MapPair]]:
    """Give the raw maps that each term asked for, by its name and the student's layer.

    Args:
        explainers: By name of the term, then by layer of the student.
        student: Its forward pass; the maps are differentiable where gradients are on.
        teacher: Its forward pass; None where only frozen maps are asked for.
        batch: What both saw.
        frozen: Terms whose teacher's maps were made before.
        stored: The teacher's maps of this batch, where they are known.
    """
    frozen, stored = frozen or {}, stored or {}

    def pair_of(name: str, layer: str, pair: PairExplainer) -> MapPair:
        if name in frozen:
            return _frozen_pair(pair, frozen[name], layer, student, batch)
        output = _there(teacher, name)
        if MapKind.of(pair) not in stored:
            return pair.from_outputs(student, output, batch.labels, create_graph=torch.is_grad_enabled())
        target = pair.choose(student, output, batch.labels)
        maps = pair.student.from_output(student, target, create_graph=torch.is_grad_enabled())
        return MapPair(maps, stored[MapKind.of(pair)])

    return {
        name: {layer: pair_of(name, layer, pair) for layer, pair in by_layer.items()}
        for name, by_layer in explainers.items()
    }


def share_of_empty(maps: list[Tensor]) -> Tensor:
    """Give the share of maps that are zero everywhere, on average over layers: they train nothing."""
    return torch.stack([(one.detach().flatten(1) == 0).all(1).float().mean() for one in maps]).mean()


def _frozen_pair(pair: PairExplainer, frozen: FrozenMaps, layer: str, student: StagedOutput, batch: Batch) -> MapPair:
    target = frozen.target(layer, batch.labels, batch.index)
    maps = pair.student.from_output(student, target, create_graph=torch.is_grad_enabled())
    return MapPair(maps, frozen.of(layer, batch.index, batch.view))


def _there(teacher: StagedOutput | None, term: str) -> StagedOutput:
    if teacher is None:
        raise ValueError(f"term {term!r} explains the teacher, and there is none.")
    return teacher
