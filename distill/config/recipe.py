"""Sections of the training recipe: optimiser, learning-rate schedule, and moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails
from typing_extensions import Self

from distill.config.base import NotNegative, OpenSection, Positive, Section

#: Defaults of `name: sgd`. Every other optimiser has the defaults of its class.
SGD_DEFAULTS: Mapping[str, Any] = {"lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4}
#: Further arguments of torch.optim.SGD.
_SGD_ARGUMENTS = ("dampening", "maximize", "foreach", "differentiable", "fused")
#: Schedules with one learning rate per step. All other names are classes of torch.optim.lr_scheduler.
BUILT_IN_SCHEDULES = ("constant", "multi_step", "cosine", "one_cycle")


class OptimizerSection(OpenSection):
    """Optimiser; other keys are arguments of its class, such as `betas`."""

    name: str = "sgd"
    """Name of a class of torch.optim, such as `adamw`, see `distill list optimizers`; or `package.module:Class`."""
    lr: Positive | None = None
    """Initial learning rate, or the maximum of a one-cycle schedule; 0.1 for sgd, else the default of the class."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Momentum, for classes that have one; 0.9 for sgd."""
    nesterov: bool | None = None
    """Whether the momentum of sgd is Nesterov's; false if left out."""
    weight_decay: NotNegative | None = None
    """Weight decay; 5e-4 for sgd, else the default of the class."""
    decay_norm_and_bias: bool = True
    """Whether weight decay applies to batch normalisation and biases as well."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Factor on the learning rate from each block to the block below; the last block has the full rate."""
    lr_factors: dict[str, Positive] = Field(default={})
    """Factors on the learning rate by pattern of parameter names, such as `{"layer1.*": 0.1}`."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_sgd(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("name", "sgd") == "sgd":
            return {**SGD_DEFAULTS, **values}
        return values

    @model_validator(mode="after")
    def _check_nesterov(self) -> OptimizerSection:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_unknown_keys_of_sgd(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        return _refuse_unknown(cls, values, handler, closed=("sgd",), known=_SGD_ARGUMENTS)

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the optimiser, without the parameters; those that are null are left out."""
        own = {key: getattr(self, key) for key in SGD_DEFAULTS}
        return {**{key: value for key, value in own.items() if value is not None}, **self.options}


class ScheduleSection(OpenSection):
    """Schedule of the learning rate; other keys are arguments of a class of torch.optim.lr_scheduler."""

    name: str = "cosine"
    """`constant`, `multi_step`, `cosine` or `one_cycle`; or a class of torch.optim.lr_scheduler, such as `StepLR`."""
    milestones: list[Annotated[int, Field(ge=1)]] = Field(default=[])
    """Epochs at which `multi_step` multiplies the learning rate by `gamma`."""
    gamma: Annotated[float, Field(gt=0, le=1)] | None = None
    """Factor of `multi_step` (0.1 if left out) and of classes that have a `gamma`."""
    interval: str = Field(default="epoch", pattern="^(epoch|step)$")
    """How often a class of torch.optim.lr_scheduler is stepped; its arguments count epochs or steps."""
    warmup_epochs: NotNegative = 0.0
    """Epochs in which the learning rate rises linearly to that of the schedule; may be a fraction."""
    warmup_start: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Factor on the learning rate at the start of the warm-up."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_gamma(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("name", "cosine") in BUILT_IN_SCHEDULES:
            return {"gamma": 0.1, **values}
        return values

    @model_validator(mode="after")
    def _check_keys(self) -> ScheduleSection:
        if self.name in BUILT_IN_SCHEDULES and bool(self.milestones) != (self.name == "multi_step"):
            raise ValueError("milestones belong to name=multi_step, which needs at least one")
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_unknown_keys_of_built_in(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        return _refuse_unknown(cls, values, handler, closed=BUILT_IN_SCHEDULES)

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of a class of torch.optim.lr_scheduler; those that are null are left out."""
        own: dict[str, Any] = {} if self.gamma is None else {"gamma": self.gamma}
        return {**own, **({"milestones": self.milestones} if self.milestones else {}), **self.options}


class EMASection(Section):
    """Exponential moving average of the student's weights: it is validated, saved and becomes the student."""

    decay: Annotated[float, Field(gt=0, lt=1)]
    """Share of the average that is kept in each step, such as 0.999."""
    every_n_steps: Annotated[int, Field(ge=1)] = 1
    """Optimiser steps between two updates of the average."""
    start_epoch: Annotated[int, Field(ge=0)] = 0
    """First epoch in which the average is updated; before it, the average equals the weights."""


class EarlyStoppingSection(OpenSection):
    """Stop when the monitored metric no longer improves; other keys are arguments of Lightning's EarlyStopping."""

    patience: Annotated[int, Field(ge=1)] = 3
    """Number of validations without an improvement after which training stops."""


S = TypeVar("S", bound=OpenSection)


def _refuse_unknown(
    section: type[S],
    values: Any,
    handler: ModelWrapValidatorHandler[S],
    *,
    closed: Sequence[str],
    known: Sequence[str] = (),
) -> S:
    """Validate an open section; with a name in ``closed``, refuse keys that are neither fields nor ``known``."""
    if not isinstance(values, Mapping) or values.get("name", section.model_fields["name"].default) not in closed:
        return handler(values)
    unknown: list[InitErrorDetails] = [
        {"type": "extra_forbidden", "loc": (key,), "input": value}
        for key, value in values.items()
        if key not in (*section.model_fields, *known)
    ]
    try:
        made = handler(values)
    except ValidationError as error:
        unknown += [
            {"type": e["type"], "loc": e["loc"], "input": e["input"], "ctx": e.get("ctx", {})} for e in error.errors()
        ]
    if unknown:
        raise ValidationError.from_exception_data(section.__name__, unknown)
    return made
