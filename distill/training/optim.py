"""Optimiser, parameter groups, learning-rate schedule and warm-up."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
)

from distill.config import BUILT_IN_SCHEDULES, OptimizerSection, ScheduleSection
from distill.errors import InputError, unknown_name
from distill.importing import import_attribute

#: Optimisers that need a closure or sparse gradients, or accept matrices only (Muon).
_UNUSABLE = ("LBFGS", "SparseAdam", "Muon", "Optimizer")
#: Schedulers that combine others, or need functions.
_COMBINED = ("LRScheduler", "SequentialLR", "ChainedScheduler", "LambdaLR", "MultiplicativeLR", "SWALR")
#: Classes whose fused kernel runs on a CPU too.
_FUSED_ON_CPU = ("SGD", "Adam", "AdamW")
#: Prefix of the student's parameters in the Lightning module.
_STUDENT = "student.network."
Parameters = Sequence[tuple[str, nn.Parameter]]


class Schedule(NamedTuple):
    """A scheduler, and whether it is stepped after each training step or after each epoch."""

    scheduler: LRScheduler | ReduceLROnPlateau
    interval: str


@dataclass(frozen=True)
class Optimisation:
    """Optimiser and learning-rate schedule of a student.

    Args:
        optimizer: Section ``optimizer`` of the configuration.
        schedule: Section ``schedule`` of the configuration.
    """

    optimizer: OptimizerSection
    schedule: ScheduleSection

    def make(self, module: nn.Module, *, steps_per_epoch: int, total_steps: int) -> tuple[Optimizer, Schedule]:
        """Return the optimiser and the schedule.

        Args:
            module: The module whose parameters are trained.
            steps_per_epoch: Optimiser steps per epoch.
            total_steps: Optimiser steps of the whole run.

        Raises:
            InputError: If a class or an argument does not exist, or a pattern matches no parameter.
        """
        optimizer = self._optimizer(module)
        return optimizer, self._schedule(optimizer, steps_per_epoch, total_steps)

    def check(self, module: nn.Module) -> None:
        """Raise the errors of :meth:`make` without using its results."""
        self.make(module, steps_per_epoch=1, total_steps=1)

    @contextmanager
    def warm_up(self, optimizer: Optimizer, *, step: int, steps_per_epoch: int) -> Iterator[None]:
        r"""Scale the learning rates of one step during the warm-up, and restore them afterwards.

        Convention:
            - The factor :math:`f + (1 - f)(t + 1) / W` at step :math:`t` of :math:`W = ` ``warmup_epochs *
              steps_per_epoch`` multiplies the schedule, with :math:`f = ` ``warmup_start``. It depends on the number of
              the step only, so that a run can resume at any step and every schedule can have a warm-up.

        Args:
            optimizer: The optimiser.
            step: Number of optimiser steps before this one.
            steps_per_epoch: Optimiser steps per epoch.

        Example:
            >>> section = ScheduleSection(warmup_epochs=1, warmup_start=0.5)
            >>> optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
            >>> with Optimisation(OptimizerSection(), section).warm_up(optimizer, step=0, steps_per_epoch=4):
            ...     optimizer.param_groups[0]["lr"]
            0.625
            >>> optimizer.param_groups[0]["lr"]
            1.0
        """
        factor = self.warm_up_factor(step=step, steps_per_epoch=steps_per_epoch)
        if factor == 1.0:
            yield
            return
        rates = [group["lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        try:
            yield
        finally:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate

    def warm_up_factor(self, *, step: int, steps_per_epoch: int) -> float:
        """Return the factor of :meth:`warm_up`."""
        steps, start = self.schedule.warmup_epochs * steps_per_epoch, self.schedule.warmup_start
        return 1.0 if step + 1 >= steps else start + (1 - start) * (step + 1) / steps

    def _optimizer(self, module: nn.Module) -> Optimizer:
        section = self.optimizer
        kind = optimizer_class(section.name)
        arguments = section.arguments
        _check_arguments("optimizer", kind, arguments, taken=("params",))
        named = [(name.removeprefix(_STUDENT), p) for name, p in module.named_parameters() if p.requires_grad]
        if not named:
            raise InputError("optimizer: the student has no trainable parameters; check student.freeze.")
        factors = lr_factors(named, layer_decay=section.layer_decay, patterns=section.lr_factors)
        lr = arguments.pop("lr", None) or _default_lr(kind)
        weight_decay = arguments.pop("weight_decay", None)
        groups = parameter_groups(
            named, lr=lr, factors=factors, weight_decay=weight_decay, decay_norm_and_bias=section.decay_norm_and_bias
        )
        # The fused kernel is used on the CPU only: gradient clipping in float16 needs torch's default (foreach).
        if kind.__module__.startswith("torch.optim") and kind.__name__ in _FUSED_ON_CPU:
            on_cpu = all(p.device.type == "cpu" for p in module.parameters())
            arguments = {"fused": True if on_cpu else None, **arguments}
        try:
            make: Callable[..., Optimizer] = kind
            return make(groups, lr=lr, **arguments)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"optimizer: {kind.__name__}: {error}") from error

    def _schedule(self, optimizer: Optimizer, steps_per_epoch: int, total_steps: int) -> Schedule:
        s = self.schedule
        if s.name == "multi_step":
            assert s.gamma is not None
            return Schedule(MultiStepLR(optimizer, [m * steps_per_epoch for m in s.milestones], gamma=s.gamma), "step")
        if s.name == "cosine":
            return Schedule(CosineAnnealingLR(optimizer, T_max=total_steps), "step")
        if s.name == "one_cycle":
            peaks = [group["lr"] for group in optimizer.param_groups]
            total = total_steps + 1
            return Schedule(OneCycleLR(optimizer, max_lr=peaks, total_steps=total, cycle_momentum=False), "step")
        if s.name == "constant":
            return Schedule(LambdaLR(optimizer, lambda _: 1.0), "step")
        kind = scheduler_class(s.name)
        _check_arguments("schedule", kind, s.arguments, taken=("optimizer", "last_epoch", "verbose"))
        try:
            return Schedule(kind(optimizer, **s.arguments), s.interval)
        except (TypeError, ValueError) as error:
            raise InputError(f"schedule: {kind.__name__}: {error}") from error


def optimizer_classes() -> dict[str, type[Optimizer]]:
    """Return the optimisers of torch.optim by name in lower case."""
    classes = [c for c in vars(torch.optim).values() if inspect.isclass(c) and issubclass(c, Optimizer)]
    return {kind.__name__.lower(): kind for kind in classes if kind.__name__ not in _UNUSABLE}


def scheduler_classes() -> dict[str, Any]:
    """Return the classes of torch.optim.lr_scheduler that a configuration can describe, by name."""
    bases = (LRScheduler, ReduceLROnPlateau)
    classes = [c for c in vars(torch.optim.lr_scheduler).values() if inspect.isclass(c) and issubclass(c, bases)]
    return {kind.__name__: kind for kind in classes if kind.__name__ not in _COMBINED and kind.__name__[0] != "_"}


def optimizer_class(name: str) -> type[Optimizer]:
    """Return the optimiser of a name: a class of torch.optim in any case, or ``package.module:Class``.

    Raises:
        InputError: If it does not exist or is no optimiser.

    Example:
        >>> optimizer_class("adamw").__name__
        'AdamW'
    """
    if ":" in name:
        kind = import_attribute(name, kind="class", suits=_is_optimizer, where="optimizer.name")
        if not _is_optimizer(kind):
            raise InputError(f"optimizer.name: {name!r} must be a subclass of torch.optim.Optimizer.")
        return cast("type[Optimizer]", kind)
    known = optimizer_classes()
    if name.lower() not in known:
        raise InputError("optimizer.name: " + unknown_name("optimizer", name, known, see="`distill list optimizers`"))
    return known[name.lower()]


def _is_optimizer(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Optimizer)


def scheduler_class(name: str) -> Callable[..., LRScheduler | ReduceLROnPlateau]:
    """Return the class of torch.optim.lr_scheduler of a name.

    Raises:
        InputError: If it does not exist.
    """
    known = scheduler_classes()
    if name not in known:
        names = [*BUILT_IN_SCHEDULES, *known]
        raise InputError("schedule.name: " + unknown_name("schedule", name, names, see="`distill list schedules`"))
    kind: Callable[..., LRScheduler | ReduceLROnPlateau] = known[name]
    return kind


def argument_names(kind: Callable[..., Any], taken: Sequence[str] = ()) -> list[str]:
    """Return the names of the arguments of a class, without those that are not the user's."""
    return [name for name in inspect.signature(kind).parameters if name not in taken]


def parameter_groups(
    parameters: Parameters,
    *,
    lr: float,
    factors: Mapping[str, float],
    weight_decay: float | None,
    decay_norm_and_bias: bool,
) -> list[dict[str, Any]]:
    """Return parameter groups of equal learning rate and weight decay.

    Args:
        parameters: Trainable parameters with their names.
        lr: Learning rate.
        factors: Factor on the learning rate of each parameter, by name; 1 if left out.
        weight_decay: Weight decay; None: the default of the optimiser.
        decay_norm_and_bias: Whether to decay parameters with one axis as well, that is biases and normalisation.

    Example:
        >>> named = list(nn.Linear(3, 2).named_parameters())
        >>> groups = parameter_groups(named, lr=0.1, factors={}, weight_decay=0.2, decay_norm_and_bias=False)
        >>> [(len(group["params"]), group["lr"], group["weight_decay"]) for group in groups]
        [(1, 0.1, 0.2), (1, 0.1, 0.0)]
    """
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in parameters:
        factor, decayed = factors.get(name, 1.0), decay_norm_and_bias or parameter.ndim > 1
        group = groups.setdefault((factor, not decayed), {"params": [], "lr": lr * factor})
        group["params"].append(parameter)
        if not decayed:
            group["weight_decay"] = 0.0
        elif weight_decay is not None:
            group["weight_decay"] = weight_decay
    return [groups[key] for key in sorted(groups, key=lambda key: (key[1], -key[0]))]


def lr_factors(
    parameters: Parameters, *, layer_decay: float | None = None, patterns: Mapping[str, float] | None = None
) -> dict[str, float]:
    r"""Return the factor on the learning rate of each parameter.

    Convention:
        - ``layer_decay`` is raised to the number of blocks above the parameter's block (Clark et al., "ELECTRA", ICLR
          2020). A block is the name up to its first number (``layer1.0``, ``encoder.layers.encoder_layer_3``), or
          the first part of a name without numbers (``stem``, ``fc``).
        - Patterns have ``*`` and ``?`` as in a shell; factors of all patterns that match are multiplied.

    Raises:
        InputError: If a pattern matches no parameter.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
        >>> lr_factors(list(net.named_parameters()), layer_decay=0.5, patterns={"1.*": 0.1})
        {'0.weight': 0.5, '1.weight': 0.1}
    """
    names = [name for name, _ in parameters]
    blocks = list(dict.fromkeys(_block(name) for name in names))
    above = {block: len(blocks) - 1 - number for number, block in enumerate(blocks)}
    factors = {name: (layer_decay or 1.0) ** above[_block(name)] for name in names}
    for pattern, factor in (patterns or {}).items():
        for name in match_names("optimizer.lr_factors", pattern, names):
            factors[name] *= factor
    return factors


def match_names(key: str, pattern: str, names: Sequence[str]) -> list[str]:
    """Return the names that a pattern matches; a pattern without a wildcard matches the module of that name.

    Raises:
        InputError: If there is none.

    Example:
        >>> match_names("student.freeze", "conv1", ["conv1.weight", "conv10.weight"])
        ['conv1.weight']
    """
    found = [name for name in names if fnmatchcase(name, pattern) or name.startswith(pattern + ".")]
    if not found:
        parts = [name.split(".") for name in names]
        modules = dict.fromkeys(".".join(part[:end]) for part in parts for end in range(1, len(part)))
        close = get_close_matches(pattern, [*modules, *names], n=1)
        hint = f" Did you mean {close[0]!r}?" if close else f" The names are {names[0]!r} to {names[-1]!r}."
        raise InputError(f"{key}: no parameter matches {pattern!r}.{hint}")
    return found


def _block(name: str) -> str:
    parts = name.split(".")
    for number, part in enumerate(parts):
        if re.fullmatch(r"(.*_)?\d+", part):
            return ".".join(parts[: number + 1])
    return parts[0]


def _default_lr(kind: type[Optimizer]) -> float:
    parameter = inspect.signature(kind).parameters.get("lr")
    if parameter is None or not isinstance(parameter.default, int | float | torch.Tensor):
        raise InputError(f"optimizer.lr: {kind.__name__} has no default learning rate; set one.")
    return float(parameter.default)


def _check_arguments(
    section: str, kind: Callable[..., Any], arguments: Mapping[str, Any], *, taken: Sequence[str]
) -> None:
    names = argument_names(kind, taken)
    if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(kind).parameters.values()):
        return
    name = getattr(kind, "__name__", str(kind))
    for key in arguments:
        if key not in names:
            close = get_close_matches(key, names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f" (it has {', '.join(names)})"
            raise InputError(f"{section}.{key}: {name} has no such argument{hint}")
