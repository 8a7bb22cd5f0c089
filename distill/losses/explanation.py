"""Explanation matching: match the student's to the teacher's explanation maps.

References:
    - Chattopadhyay et al., "Grad-CAM++", WACV 2018, eq. 27 and 28: squared difference of Grad-CAM++ maps of the label.
    - Parchami-Araghi et al., "Good Teachers Explain" (e2-KD), ECCV 2024: cosine of maps of the teacher's prediction.

Difference from the papers: each map is normalised by default (``l2``). Use ``none`` and ``squared_error`` for the
formula of Chattopadhyay et al. as printed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill.losses.term import TermInputs, sum_over_layers
from distill.maps import Normalization, at_least_float32, normalize_maps, resize_maps


def explanation_loss(
    student_maps: Float[Tensor, "n *s"],
    teacher_maps: Float[Tensor, "n *t"],
    *,
    normalize: Normalization,
    distance: str,
) -> Float[Tensor, ""]:
    """Explanation loss: the distance between raw maps of the student and the teacher.

    The teacher's maps are resized to the size of the student's maps, then both are normalised and compared.

    Convention:
        - Distances are summed over the sites and averaged over the samples.
        - ``squared_error`` and ``l1`` are the squared and the absolute difference. ``cosine`` is 1 minus the cosine
          similarity. ``jensen_shannon`` is the divergence of the maps as distributions over the sites, in nats.
        - With ``l2`` normalisation, ``squared_error`` is twice ``cosine`` for maps that are not empty.
        - An empty map (zero everywhere) has zero gradient; under ``cosine``, the other map of the pair has zero
          gradient too. The distance of two empty maps is 0.

    Args:
        student_maps: Maps of the student with values of at least 0.
        teacher_maps: Maps of the teacher with values of at least 0; they receive no gradient.
        normalize: Normalisation of the maps, see :func:`distill.maps.normalize_maps`.
        distance: ``squared_error``, ``cosine``, ``l1`` or ``jensen_shannon``.

    Returns:
        A scalar, in float32 or float64, at least 0 up to rounding.

    Raises:
        ValueError: If ``distance`` or ``normalize`` is unknown, or the numbers of maps differ.

    Example:
        >>> maps = torch.tensor([[[3.0, 4.0]]])
        >>> explanation_loss(maps, torch.tensor([[[4.0, 3.0]]]), normalize="l2", distance="squared_error")
        tensor(0.0800)
    """
    _check(normalize, distance)
    if len(student_maps) != len(teacher_maps):
        raise ValueError(
            f"student and teacher must have the same number of maps, got {len(student_maps)} and {len(teacher_maps)}."
        )
    teacher = resize_maps(at_least_float32(teacher_maps.detach()), student_maps.shape[1:])
    student, teacher = normalize_maps(student_maps, normalize), normalize_maps(teacher, normalize)
    return DISTANCES[distance](student.flatten(1), teacher.flatten(1)).mean()


class ExplanationMatching(nn.Module):
    """The term ``explanation``: the weighted sum of the losses of all explained layers.

    Args:
        layers: Weight of each layer of the student; by default 1 for every explained layer.
        normalize: Normalisation of the maps, see :func:`distill.maps.normalize_maps`.
        distance: ``squared_error``, ``cosine``, ``l1`` or ``jensen_shannon``, see :func:`explanation_loss`.

    Raises:
        ValueError: If ``normalize`` or ``distance`` is unknown.
    """

    needs_maps = "grad_cam_pp"

    def __init__(
        self,
        *,
        layers: Mapping[str, float] | None = None,
        normalize: Normalization = "l2",
        distance: str = "squared_error",
    ) -> None:
        super().__init__()
        _check(normalize, distance)
        self.layers = None if layers is None else dict(layers)
        self.normalize = normalize
        self.distance = distance

    def forward(self, inputs: TermInputs) -> Float[Tensor, ""]:
        """Compute the loss from the maps of the student and the teacher."""
        compare = functools.partial(explanation_loss, normalize=self.normalize, distance=self.distance)
        return sum_over_layers(inputs, compare, layers=self.layers, term="explanation")


def _check(normalize: str, distance: str) -> None:
    for name, got, choices in (("normalize", normalize, get_args(Normalization)), ("distance", distance, DISTANCES)):
        if got not in choices:
            raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {got!r}.")


def _squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    return (student - teacher).square().sum(1)


def _l1(student: Tensor, teacher: Tensor) -> Tensor:
    return (student - teacher).abs().sum(1)


def _cosine(student: Tensor, teacher: Tensor) -> Tensor:
    student, teacher = normalize_maps(student, "l2"), normalize_maps(teacher, "l2")
    both_empty = ((student == 0) & (teacher == 0)).all(1)
    return torch.where(both_empty, 0.0, 1 - (student * teacher).sum(1))


def _jensen_shannon(student: Tensor, teacher: Tensor) -> Tensor:
    student, teacher = normalize_maps(student, "sum"), normalize_maps(teacher, "sum")
    middle = (student + teacher) / 2
    return (_relative_entropy(student, middle) + _relative_entropy(teacher, middle)) / 2


def _relative_entropy(p: Tensor, q: Tensor) -> Tensor:
    is_zero = p == 0  # p log p is 0 there; its gradient is set to 0, like that of ReLU at 0
    ratio = torch.where(is_zero, 1.0, p) / torch.where(is_zero, 1.0, q)
    return torch.where(is_zero, 0.0, p * ratio.log()).sum(1)


#: Functions from flattened maps of the student and the teacher to one number per sample, by name.
DISTANCES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared_error": _squared_error,
    "cosine": _cosine,
    "l1": _l1,
    "jensen_shannon": _jensen_shannon,
}
