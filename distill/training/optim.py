"""Optimiser and learning-rate schedule; all schedules are configured in epochs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, MultiStepLR, OneCycleLR

from distill.config import OptimizerSection, ScheduleSection


@dataclass(frozen=True)
class Optimisation:
    """Optimiser and learning-rate schedule of a student.

    Args:
        optimizer: Section ``optimizer`` of the configuration.
        schedule: Section ``schedule`` of the configuration.
    """

    optimizer: OptimizerSection
    schedule: ScheduleSection

    def make(self, module: nn.Module, *, steps_per_epoch: int, total_steps: int) -> tuple[Optimizer, LRScheduler]:
        """Return the optimiser and the scheduler.

        Convention:
            - Step the scheduler after every training step, not every epoch, so that a run can resume at any step.

        Args:
            module: The module whose parameters are trained.
            steps_per_epoch: Optimiser steps per epoch.
            total_steps: Optimiser steps of the whole run.
        """
        o = self.optimizer
        groups = parameter_groups(module, o.weight_decay, decay_norm_and_bias=o.decay_norm_and_bias)
        # The fused kernel is used on the CPU only: gradient clipping in float16 needs torch's default (foreach).
        on_cpu = all(p.device.type == "cpu" for p in module.parameters())
        optimizer = SGD(groups, lr=o.lr, momentum=o.momentum, nesterov=o.nesterov, fused=True if on_cpu else None)
        return optimizer, self._schedule(optimizer, steps_per_epoch, total_steps)

    def _schedule(self, optimizer: Optimizer, steps_per_epoch: int, total_steps: int) -> LRScheduler:
        s = self.schedule
        if s.name == "multi_step":
            return MultiStepLR(optimizer, [m * steps_per_epoch for m in s.milestones], gamma=s.gamma)
        if s.name == "cosine":
            return CosineAnnealingLR(optimizer, T_max=total_steps)
        if s.name == "one_cycle":
            return OneCycleLR(optimizer, max_lr=self.optimizer.lr, total_steps=total_steps + 1, cycle_momentum=False)
        return LambdaLR(optimizer, lambda _: 1.0)


def parameter_groups(module: nn.Module, weight_decay: float, *, decay_norm_and_bias: bool) -> list[dict[str, object]]:
    """Return parameter groups for weight decay.

    Args:
        module: Module whose trainable parameters are grouped.
        weight_decay: Weight decay, 0 or above.
        decay_norm_and_bias: Whether to decay parameters with one axis as well, that is biases and normalisation.

    Example:
        >>> groups = parameter_groups(nn.Linear(3, 2), 0.1, decay_norm_and_bias=False)
        >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
        [(1, 0.1), (1, 0.0)]
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    if decay_norm_and_bias:
        return [{"params": parameters, "weight_decay": weight_decay}]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
