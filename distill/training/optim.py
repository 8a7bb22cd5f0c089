"""Optimiser and learning-rate schedule; the epoch is the unit of every schedule."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, MultiStepLR, OneCycleLR

from distill.config import OptimizerSection, ScheduleSection


@dataclass(frozen=True)
class Optimisation:
    """How a student is optimised.

    Args:
        optimizer: Its section of the configuration.
        schedule: Its section of the configuration.
    """

    optimizer: OptimizerSection
    schedule: ScheduleSection

    def make(self, module: nn.Module, *, steps_per_epoch: int, total_steps: int) -> tuple[Optimizer, LRScheduler]:
        """Build both; the scheduler is stepped with every step, so that stopping anywhere loses nothing."""
        o = self.optimizer
        groups = parameter_groups(module, o.weight_decay, decay_norm_and_bias=o.decay_norm_and_bias)
        # One kernel on the CPU; elsewhere torch's own choice (foreach), which gradient clipping in float16 needs.
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
    """Split parameters so that weight decay can spare those with one axis: biases and normalisation.

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
