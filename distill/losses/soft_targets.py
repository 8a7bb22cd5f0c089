"""Soft targets: the student learns the teacher's probabilities at a raised temperature."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from distill.losses.term import TermInputs, require_teacher


def soft_target_loss(
    student_logits: Float[Tensor, "n classes"],
    teacher_logits: Float[Tensor, "n classes"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    r"""Distance of the softened probabilities, :math:`T^2\,\mathrm{KL}(\sigma(z_t/T)\,\|\,\sigma(z_s/T))`.

    Convention:
        - Summed over classes, mean over the batch; T squared keeps the gradient's size when T changes.
        - In log space, so saturated logits stay finite. Teacher first: KL of the student from the teacher.

    Args:
        student_logits: What is trained.
        teacher_logits: What is taught; no gradient is taken.
        temperature: T, above 0; 4 is usual on small images.

    Returns:
        A scalar in nats, float32 or wider, not negative up to rounding.

    Raises:
        ValueError: if the numbers of classes differ, or the temperature is not above 0.

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
    log_student = F.log_softmax(_wide(student_logits) / temperature, dim=1)
    log_teacher = F.log_softmax(_wide(teacher_logits.detach()) / temperature, dim=1)
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2


class SoftTargets(nn.Module):
    """The term ``soft_targets``.

    Args:
        temperature: T of :func:`soft_target_loss`.
    """

    def __init__(self, *, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, inputs: TermInputs) -> Float[Tensor, ""]:
        """Compare the logits of both."""
        teacher = require_teacher(inputs, "soft_targets")
        return soft_target_loss(inputs.student.logits, teacher.logits, temperature=self.temperature)


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype.itemsize == 8 else logits.float()
