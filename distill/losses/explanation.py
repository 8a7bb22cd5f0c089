"""Explanation matching: the student's map of an image comes near the teacher's.

References:
    - Chattopadhyay et al., WACV 2018, eq. 27 and 28: squared difference of Grad-CAM++ maps, class = the label.
    - Parchami-Araghi et al., "Good Teachers Explain" (e2-KD), ECCV 2024: cosine, class = the teacher's choice.

Deliberate difference: maps are normalised per sample by default (``l2``); with ``none`` and ``squared_error`` it is the
formula as printed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill.losses.term import TermInputs, sum_over_layers
from distill.maps import Normalization, normalize_maps, resize_maps


def explanation_loss(
    student_maps: Float[Tensor, "n *s"],
    teacher_maps: Float[Tensor, "n *t"],
    *,
    normalize: Normalization,
    distance: str,
) -> Float[Tensor, ""]:
    """Distance of two sets of raw maps: resize the teacher's to the student's size, normalise both, compare.

    Convention:
        - Summed over the sites, mean over the samples.
        - ``squared_error``, ``l1``; ``cosine`` is 1 - cosine; ``jensen_shannon`` is of the maps as distributions over
          the sites, in nats. With ``l2``, ``squared_error`` is twice ``cosine`` for maps that are not empty.
        - An empty map has zero gradient, and so has the other of the pair under ``cosine``. Two
          empty maps are at distance 0.

    Args:
        student_maps: Not negative; what is trained.
        teacher_maps: Not negative; no gradient is taken.
        normalize: See :func:`distill.maps.normalize_maps`.
        distance: One of the four names above.

    Returns:
        A scalar, float32 or wider, not negative up to rounding.

    Raises:
        ValueError: if ``distance`` or ``normalize`` is unknown, or the numbers of maps differ.

    Example:
        >>> maps = torch.tensor([[[3.0, 4.0]]])
        >>> explanation_loss(maps, torch.tensor([[[4.0, 3.0]]]), normalize="l2", distance="squared_error")
        tensor(0.0800)
    """
    _check(normalize, distance)
    if len(student_maps) != len(teacher_maps):
        raise ValueError(f"maps must be of the same samples, got {len(student_maps)} and {len(teacher_maps)}.")
    student = student_maps
    teacher = resize_maps(_wide(teacher_maps.detach()), student_maps.shape[1:])
    student, teacher = normalize_maps(student, normalize), normalize_maps(teacher, normalize)
    return DISTANCES[distance](student.flatten(1), teacher.flatten(1)).mean()


class ExplanationMatching(nn.Module):
    """The term ``explanation``: the weighted sum over the explained layers.

    Args:
        layers: Weight of each layer of the student; 1 for every layer that is explained if left out.
        normalize: See :func:`distill.maps.normalize_maps`.
        distance: See :func:`explanation_loss`.
    """

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
        """Compare the maps of both."""
        compare = functools.partial(explanation_loss, normalize=self.normalize, distance=self.distance)
        return sum_over_layers(inputs, compare, layers=self.layers, term="explanation")


def _check(normalize: str, distance: str) -> None:
    for name, got, known in (("normalize", normalize, get_args(Normalization)), ("distance", distance, DISTANCES)):
        if got not in known:
            raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {got!r}.")


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
    nothing = p == 0  # p log p is 0 there, and its gradient is cut: relu's own is 0 too
    ratio = torch.where(nothing, 1.0, p) / torch.where(nothing, 1.0, q)
    return torch.where(nothing, 0.0, p * ratio.log()).sum(1)


def _wide(maps: Tensor) -> Tensor:
    return maps if maps.dtype == torch.float64 else maps.float()


DISTANCES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared_error": _squared_error,
    "cosine": _cosine,
    "l1": _l1,
    "jensen_shannon": _jensen_shannon,
}
