"""Attention transfer: the student is active where the teacher is, whatever the class.

References:
    - Zagoruyko & Komodakis, "Paying More Attention to Attention", ICLR 2017, arXiv 1612.03928, eq. 2.
    - Their code, szagoruyko/attention-transfer, ``utils.py``: ``at`` and ``at_loss``.

Deliberate differences: a teacher's map of another size is resized to the student's; a map that is zero everywhere, and
in the paper's form a pair of equal maps, have zero gradient. The paper's factor 1/2 is left to the weight.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill.losses.term import TermInputs, sum_over_layers
from distill.maps import normalize_maps, resize_maps


def attention_transfer_loss(
    student_activations: Float[Tensor, "n k *s"],
    teacher_activations: Float[Tensor, "n c *t"],
    *,
    form: str,
) -> Float[Tensor, ""]:
    r"""Distance of two layers' attention, :math:`q = \mathrm{vec}(\sum_k A_k^2) / \|\mathrm{vec}(\sum_k A_k^2)\|_2`.

    Convention:
        - ``reference``: :math:`(q_s - q_t)^2`, mean over sites and samples, as the authors' code computes it.
        - ``paper``: :math:`\|q_s - q_t\|_2`, mean over samples.
        - Activations may have either sign and any number of channels: raw sums of a group's blocks are usual.

    Args:
        student_activations: What is trained.
        teacher_activations: What is taught; no gradient is taken.
        form: One of the two names above.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if ``form`` is unknown, or the numbers of samples differ.

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
    """Give :func:`attention_transfer_loss` of maps that were already summed over the channels.

    Args:
        student_maps: Not negative, on any scale.
        teacher_maps: The same; no gradient is taken.
        form: ``reference`` or ``paper``.

    Raises:
        ValueError: if ``form`` is unknown, or the numbers of maps differ.
    """
    _check(form)
    if len(student_maps) != len(teacher_maps):
        raise ValueError(f"maps must be of the same samples, got {len(student_maps)} and {len(teacher_maps)}.")
    teacher = resize_maps(_wide(teacher_maps.detach()), student_maps.shape[1:])
    difference = normalize_maps(student_maps, "l2") - normalize_maps(teacher, "l2")
    return FORMS[form](difference.flatten(1)).mean()


class AttentionTransfer(nn.Module):
    """The term ``attention_transfer``: the weighted sum over layers, on maps of ``activation_attention``.

    Args:
        layers: Weight of each layer of the student; 1 for every layer that has maps if left out.
        form: See :func:`attention_transfer_loss`.

    Raises:
        ValueError: if ``form`` is unknown.
    """

    def __init__(self, *, layers: Mapping[str, float] | None = None, form: str = "reference") -> None:
        super().__init__()
        _check(form)
        self.layers = None if layers is None else dict(layers)
        self.form = form

    def forward(self, inputs: TermInputs) -> Float[Tensor, ""]:
        """Compare the maps of both."""
        compare = functools.partial(attention_map_loss, form=self.form)
        return sum_over_layers(inputs, compare, layers=self.layers, term="attention_transfer")


def _check(form: str) -> None:
    if form not in FORMS:
        raise ValueError(f"`form` must be one of {', '.join(FORMS)}, got {form!r}.")


def _attention(activations: Tensor) -> Tensor:
    return _wide(activations).square().sum(1)


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _mean_square(difference: Tensor) -> Tensor:
    return difference.square().mean(1)


def _norm(difference: Tensor) -> Tensor:
    square = difference.square().sum(1)
    equal = square == 0  # the norm has a corner there
    return torch.where(equal, 0.0, torch.where(equal, 1.0, square).sqrt())


#: What is made of the difference of two normalised maps, for every sample.
FORMS: Mapping[str, Callable[[Tensor], Tensor]] = {"reference": _mean_square, "paper": _norm}
