"""The input of a term, and the class attributes by which a term declares what it needs.

A term is a :class:`torch.nn.Module` whose ``forward`` takes :class:`TermInputs` and returns a scalar. It never calls a
network. See docs/terms.md for an example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill.models.layouts import Layout
from distill.types import MapPair, Mix, StagedOutput

_EMPTY: Mapping[str, Any] = MappingProxyType({})


class ActivationPair(NamedTuple):
    """Activations of a layer of the student and of the layer of the teacher that it is compared with, as (N, K, *S).

    ``teacher`` is None if the term does not declare ``needs_teacher``.
    """

    student: Float[Tensor, "n k ..."]
    teacher: Float[Tensor, "n c ..."] | None


class ComparedLayer(NamedTuple):
    """How a layer of the student is compared: the layer of the teacher, the weight of the layer, and both layouts."""

    teacher: str
    weight: float = 1.0
    layout: Layout = "auto"
    teacher_layout: Layout = "auto"


class TermInputs(NamedTuple):
    """The input of a term in one training step.

    Args:
        student: Forward pass of the student, with a graph.
        teacher: Forward pass of the teacher, without a graph; None if the term does not declare ``needs_teacher``.
            Only its logits are filled in if a teacher cache is used.
        labels: Class of each sample; of mixed images, the class of the larger share.
        maps: Raw maps by layer of the student, if the term declares ``needs_maps``.
        activations: Activations by layer of the student, if the term declares ``needs_activations``.
        layers: Weight of each layer of the student that the term compares.
        mix: The other class of mixed images, and the shares of both; None if the images are not mixed.
    """

    student: StagedOutput
    teacher: StagedOutput | None
    labels: Int[Tensor, " n"]
    maps: Mapping[str, MapPair] | None = None
    activations: Mapping[str, ActivationPair] = _EMPTY
    layers: Mapping[str, float] = _EMPTY
    mix: Mix | None = None


class Needs(NamedTuple):
    """What a term needs besides the student's logits and the labels."""

    teacher: bool = False
    activations: bool = False
    maps: str | None = None


def needs_of(term: nn.Module | type[nn.Module]) -> Needs:
    """Read what a term needs from its class attributes.

    ``needs_teacher = True`` asks for the teacher's forward pass, ``needs_activations = True`` for the activations of
    the compared layers, and ``needs_maps = "grad_cam_pp"`` for maps of that method at these layers. Maps are always
    made for student and teacher, so that ``needs_maps`` implies ``needs_teacher``.

    Example:
        >>> class Penalty(nn.Module):
        ...     needs_activations = True
        >>> needs_of(Penalty)
        Needs(teacher=False, activations=True, maps=None)
    """
    maps = getattr(term, "needs_maps", None) or None
    teacher = bool(getattr(term, "needs_teacher", False)) or maps is not None
    return Needs(teacher, bool(getattr(term, "needs_activations", False)), maps)


def require_teacher(inputs: TermInputs, term: str) -> StagedOutput:
    """Return the teacher's output; raise a ValueError that names the term if there is no teacher."""
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
    """Return the weighted sum of a loss over the maps of all layers.

    Args:
        inputs: The step, with maps at exactly these layers.
        compare: Loss of the student's and the teacher's maps of one layer.
        layers: Weight of each layer of the student; 1 for every layer that has maps if None.
        term: Name of the term, for the error message.

    Raises:
        ValueError: if the layers with maps are not exactly ``layers``.
    """
    maps = inputs.maps or {}
    layers = dict.fromkeys(maps, 1.0) if layers is None else layers
    if not maps or maps.keys() != layers.keys():
        expected = ", ".join(layers) or "a layer"
        raise ValueError(f"term {term!r} needs maps of student and teacher at {expected}, got {list(maps)}.")
    return torch.stack([weight * compare(*maps[layer]) for layer, weight in layers.items()]).sum()
