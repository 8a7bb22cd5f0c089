"""Attention transfer: match the attention maps of the student and the teacher, independently of the class.

References:
    - Zagoruyko & Komodakis, "Paying More Attention to Attention", ICLR 2017, arXiv 1612.03928, eq. 2.
    - The authors' code, szagoruyko/attention-transfer, ``utils.py``: ``at`` and ``at_loss``.

Differences from the authors' code:
    - The teacher's maps are resized to the size of the student's maps.
    - A map that is zero everywhere has zero gradient. So has a pair of equal maps in the form of the paper.
    - The factor 1/2 of the paper is left to the weight of the term.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill.losses.term import TermInputs, sum_over_layers
from distill.maps import at_least_float32, normalize_maps, resize_maps


def attention_transfer_loss(
    student_activations: Float[Tensor, "n k *s"],
    teacher_activations: Float[Tensor, "n c *t"],
    *,
    form: str,
) -> Float[Tensor, ""]:
    r"""Attention transfer loss: the distance between the normalised attention maps of two layers.

    .. math:: q = \frac{\mathrm{vec}(\sum_k A_k^2)}{\|\mathrm{vec}(\sum_k A_k^2)\|_2}

    Convention:
        - ``reference`` is the mean of :math:`(q_s - q_t)^2` over sites and samples, as in the authors' code.
        - ``paper`` is the mean of :math:`\|q_s - q_t\|_2` over samples.
        - Activations may have both signs and any number of channels. Usual layers are the outputs of residual groups
          before the ReLU.

    Args:
        student_activations: Activations of the student.
        teacher_activations: Activations of the teacher; they receive no gradient.
        form: ``reference`` or ``paper``.

    Returns:
        A scalar, in float32 or float64.

    Raises:
        ValueError: If ``form`` is unknown, or the numbers of samples differ.

    Example:
        >>> student, teacher = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]), torch.tensor([[[0.0, 3.0]]])
        >>> attention_transfer_loss(student, teacher, form="reference")
        tensor(1.)
        >>> attention_transfer_loss(student, teacher, form="paper")
        tensor(1.4142)
    """
    return attention_map_loss(_attention(student_activations), _attention(teacher_activations), form=form)


def attention_map_loss(
    student_maps: Float[Tensor, "n *s"], teacher_maps: Float[Tensor, "n *t"], *, form: str
) -> Float[Tensor, ""]:
    """Attention transfer loss of attention maps, which are already summed over the channels.

    Args:
        student_maps: Maps of the student with values of at least 0; the scale does not matter.
        teacher_maps: Maps of the teacher, likewise; they receive no gradient.
        form: ``reference`` or ``paper``, see :func:`attention_transfer_loss`.

    Returns:
        A scalar, in float32 or float64.

    Raises:
        ValueError: If ``form`` is unknown, or the numbers of maps differ.
    """
    _check(form)
    if len(student_maps) != len(teacher_maps):
        raise ValueError(
            f"student and teacher must have the same number of maps, got {len(student_maps)} and {len(teacher_maps)}."
        )
    teacher = resize_maps(at_least_float32(teacher_maps.detach()), student_maps.shape[1:])
    difference = normalize_maps(student_maps, "l2") - normalize_maps(teacher, "l2")
    return FORMS[form](difference.flatten(1)).mean()


class AttentionTransfer(nn.Module):
    """The term ``attention_transfer``: the weighted sum of the layers' losses, from ``activation_attention`` maps.

    Args:
        layers: Weight of each layer of the student; by default 1 for every layer with maps.
        form: ``reference`` or ``paper``, see :func:`attention_transfer_loss`.

    Raises:
        ValueError: If ``form`` is unknown.
    """

    needs_maps = "activation_attention"

    def __init__(self, *, layers: Mapping[str, float] | None = None, form: str = "reference") -> None:
        super().__init__()
        _check(form)
        self.layers = None if layers is None else dict(layers)
        self.form = form

    def forward(self, inputs: TermInputs) -> Float[Tensor, ""]:
        """Compute the loss from the maps of the student and the teacher."""
        compare = functools.partial(attention_map_loss, form=self.form)
        return sum_over_layers(inputs, compare, layers=self.layers, term="attention_transfer")


def _check(form: str) -> None:
    if form not in FORMS:
        raise ValueError(f"`form` must be one of {', '.join(FORMS)}, got {form!r}.")


def _attention(activations: Tensor) -> Tensor:
    return at_least_float32(activations).square().sum(1)


def _mean_square(difference: Tensor) -> Tensor:
    return difference.square().mean(1)


def _norm(difference: Tensor) -> Tensor:
    square = difference.square().sum(1)
    equal = square == 0  # the norm is not differentiable there
    return torch.where(equal, 0.0, torch.where(equal, 1.0, square).sqrt())


#: Functions from the differences of normalised maps to one number per sample, by the name of the form.
FORMS: Mapping[str, Callable[[Tensor], Tensor]] = {"reference": _mean_square, "paper": _norm}
