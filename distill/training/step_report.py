"""The figures of one training step: its terms, their gradients, and the first module whose output is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from distill.losses import Losses
from distill.training.module import DistillationModule
from distill.types import Batch

_NONE = "none, all outputs of student and teacher are finite"


class TermFigures(NamedTuple):
    """A term: its value, its weighted value, and the norm of the gradient of the latter; NaN if it was not computed."""

    value: float
    weighted: float
    gradient_norm: float


@dataclass(frozen=True)
class StepReport:
    """What a training step computed.

    Args:
        step: Number of the step, from 0.
        cause: What is not finite first, such as "term 'explanation'".
        terms: The active terms.
        loss: Sum of the weighted terms.
        gradient_norm: Norm of its gradient, before clipping.
        module: The first module whose output is not finite, such as ``student.fc``; empty if there is none.
    """

    step: int
    cause: str
    terms: Mapping[str, TermFigures]
    loss: float
    gradient_norm: float
    module: str = ""

    def to_plain(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        terms = {name: list(figures) for name, figures in self.terms.items()}
        return {**vars(self), "terms": terms}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> StepReport:
        """Return the report of :meth:`to_plain`."""
        terms = {name: TermFigures(*figures) for name, figures in values["terms"].items()}
        return cls(**{**values, "terms": terms})

    def equals(self, other: StepReport) -> bool:
        """Return whether all figures are equal to the bit; NaN equals NaN."""
        return repr(self) == repr(other)

    @property
    def text(self) -> str:
        """The figures as a table; 9 digits determine a float32.

        Example:
            >>> print(StepReport(3, "term 'kd'", {"kd": TermFigures(math.nan, math.nan, 0.5)}, math.nan, 0.5).text)
            step 3: the first values that are not finite are those of term 'kd'
            term            value         weighted   gradient norm
            kd                nan              nan             0.5
            total                              nan             0.5
            first module whose output is not finite: none, all outputs of student and teacher are finite
        """
        width = max(len(name) for name in ("total", *self.terms)) + 2
        lines = [
            f"step {self.step}: the first values that are not finite are those of {self.cause}",
            f"{'term':{width}}{'value':>14}{'weighted':>17}{'gradient norm':>16}",
            *(
                f"{name:{width}}{f.value:14.9g}{f.weighted:17.9g}{f.gradient_norm:16.9g}"
                for name, f in self.terms.items()
            ),
            f"{'total':{width}}{'':14}{self.loss:17.9g}{self.gradient_norm:16.9g}",
            f"first module whose output is not finite: {self.module or _NONE}",
        ]
        return "\n".join(lines)


def examine_step(
    module: DistillationModule,
    step: Callable[[], Tensor],
    batch: Batch,
    *,
    number: int,
    weights: tuple[Sequence[str], int] | None = None,
) -> StepReport:
    """Run a training step, and return its figures.

    Args:
        module: The module; its batch statistics are updated once more.
        step: Runs ``training_step`` of the module.
        batch: The batch of the step.
        number: Number of the step.
        weights: Names of the weights that are not finite after the step, and the number of all weights; None if they
            were not found there.
    """
    seen: list[Losses] = []
    hook = module.objective.register_forward_hook(lambda objective, inputs, losses: seen.append(losses))
    try:
        with first_non_finite_module(module) as found:
            total = step()
    finally:
        hook.remove()
    (losses,) = seen
    parameters = [p for p in module.parameters() if p.requires_grad]
    norms = {name: gradient_norm(value, parameters) for name, value in losses.weighted.items()}
    terms = {
        name: TermFigures(losses.raw[name].item(), losses.weighted[name].item(), norms[name]) for name in losses.raw
    }
    loss, norm = total.item(), gradient_norm(total, parameters)
    cause = _cause(terms, loss=loss, norm=norm, batch=batch, weights=weights)
    return StepReport(number, cause, terms, loss, norm, found[0] if found else "")


def _cause(
    terms: Mapping[str, TermFigures],
    *,
    loss: float,
    norm: float,
    batch: Batch,
    weights: tuple[Sequence[str], int] | None,
) -> str:
    """Return what is not finite first, in the order of the computation."""
    values = [repr(name) for name, figures in terms.items() if not math.isfinite(figures.value)]
    gradients = [repr(name) for name, figures in terms.items() if not math.isfinite(figures.gradient_norm)]
    if not batch.images.isfinite().all():
        return "an image of the batch"
    if values:
        return f"term {' and '.join(values)}"
    if not math.isfinite(loss):
        return "the sum of the weighted terms"
    if gradients and not math.isfinite(norm):
        return f"the gradient of term {' and '.join(gradients)}"
    if weights is not None:
        names, count = weights
        return f"the weights after the step ({len(names)} of {count}, first {names[0]!r})"
    return "the gradient"


def gradient_norm(value: Tensor, parameters: Sequence[nn.Parameter]) -> float:
    """Return the norm of the gradient of a value, in float64; NaN or infinite only if the gradient is."""
    if not value.requires_grad:
        return 0.0
    gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    norms = [torch.linalg.vector_norm(each, dtype=torch.float64) for each in gradients if each is not None]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0


@contextmanager
def first_non_finite_module(module: DistillationModule) -> Iterator[list[str]]:
    """Yield a list that gets the names of the modules whose outputs are not finite, in the order of the computation.

    Convention:
        - The modules of the student begin with ``student.``, those of the teacher with ``teacher.``. A module follows
          the modules in it.
    """
    found: list[str] = []

    def look(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
            if not all(bool(tensor.isfinite().all()) for tensor in tensors):
                found.append(name)

        return hook

    networks: dict[str, nn.Module] = {"student": module.student.network}
    if module.teacher is not None:
        networks["teacher"] = module.teacher.network.network
    with ExitStack() as hooks:
        for role, network in networks.items():
            for name, layer in network.named_modules():
                handle = layer.register_forward_hook(look(f"{role}.{name}" if name else role))
                hooks.callback(handle.remove)
        yield found
