"""Soft targets for images with several labels: match the probability of every class at a temperature."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from distill.losses.term import TermInputs, require_teacher
from distill.maps import at_least_float32


def binary_soft_target_loss(
    student_logits: Float[Tensor, "n classes"],
    teacher_logits: Float[Tensor, "n classes"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    r"""Divergence between the softened probabilities of every class, present against absent.

    .. math:: T^2 \sum_c \mathrm{KL}\big(\mathrm{Bern}(\sigma(z^t_c/T))\,\|\,\mathrm{Bern}(\sigma(z^s_c/T))\big)

    Convention:
        - Summed over the classes and averaged over the images. With T = 1 this is the multi-label logits distillation
          of Yang et al., ICCV 2023 (L2D).
        - The factor T squared keeps the size of the gradient when T changes.
        - It is computed from log-probabilities, so it is finite for saturated logits.

    Args:
        student_logits: Logits of the student.
        teacher_logits: Logits of the teacher; they receive no gradient.
        temperature: T, above 0.

    Returns:
        A scalar in nats, in float32 or float64, at least 0 up to rounding.

    Raises:
        ValueError: If the shapes of the logits differ, or the temperature is not above 0.

    References:
        Yang et al., "Multi-Label Knowledge Distillation", ICCV 2023, eq. 2 and 3.

    Example:
        >>> import torch
        >>> binary_soft_target_loss(torch.zeros(1, 2), torch.tensor([[2.0, 0.0]]), temperature=2.0)
        tensor(0.4438)
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student and teacher must have the same classes, got logits {tuple(student_logits.shape)} "
            f"and {tuple(teacher_logits.shape)}."
        )
    if not temperature > 0:
        raise ValueError(f"`temperature` must be above 0, got {temperature}.")
    student = at_least_float32(student_logits) / temperature
    teacher = at_least_float32(teacher_logits.detach()) / temperature
    present = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
    absent = (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return (present + absent).sum(1).mean() * temperature**2


class BinarySoftTargets(nn.Module):
    """The term ``binary_soft_targets``, see :func:`binary_soft_target_loss`.

    Args:
        temperature: Temperature of the probabilities, above 0.
    """

    needs_teacher = True

    def __init__(self, *, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, inputs: TermInputs) -> Float[Tensor, ""]:
        """Compute the loss from the logits of the student and the teacher."""
        teacher = require_teacher(inputs, "binary_soft_targets")
        return binary_soft_target_loss(inputs.student.logits, teacher.logits, temperature=self.temperature)
