"""Soft targets: match the student's to the teacher's class probabilities at a temperature."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from distill.losses.term import TermInputs, require_teacher
from distill.maps import at_least_float32


def soft_target_loss(
    student_logits: Float[Tensor, "n classes"],
    teacher_logits: Float[Tensor, "n classes"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    r"""Soft target loss: the Kullback-Leibler divergence between softened class probabilities.

    .. math:: T^2\,\mathrm{KL}(\sigma(z_t/T)\,\|\,\sigma(z_s/T))

    Convention:
        - The divergence is summed over the classes and averaged over the batch. The teacher's probabilities are the
          first argument of KL.
        - The factor T squared keeps the size of the gradient when T changes.
        - It is computed from log-probabilities, so it is finite for saturated logits.

    Args:
        student_logits: Logits of the student.
        teacher_logits: Logits of the teacher; they receive no gradient.
        temperature: T, above 0; 4 is a common value for small images.

    Returns:
        A scalar in nats, in float32 or float64, at least 0 up to rounding.

    Raises:
        ValueError: If the shapes of the logits differ, or the temperature is not above 0.

    References:
        Hinton, Vinyals & Dean, arXiv 1503.02531, section 2.

    Example:
        >>> import torch
        >>> soft_target_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), temperature=2.0)
        tensor(0.4438)
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student and teacher must have the same classes, got logits {tuple(student_logits.shape)} "
            f"and {tuple(teacher_logits.shape)}."
        )
    if not temperature > 0:
        raise ValueError(f"`temperature` must be above 0, got {temperature}.")
    log_student = F.log_softmax(at_least_float32(student_logits) / temperature, dim=1)
    log_teacher = F.log_softmax(at_least_float32(teacher_logits.detach()) / temperature, dim=1)
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2


class SoftTargets(nn.Module):
    """The term ``soft_targets``, see :func:`soft_target_loss`.

    Args:
        temperature: Temperature of the probabilities, above 0.
    """

    needs_teacher = True

    def __init__(self, *, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, inputs: TermInputs) -> Float[Tensor, ""]:
        """Compute the loss from the logits of the student and the teacher."""
        teacher = require_teacher(inputs, "soft_targets")
        return soft_target_loss(inputs.student.logits, teacher.logits, temperature=self.temperature)
