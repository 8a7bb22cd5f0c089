"""The error of a third-party term that fails: where, with which tensors, and what the class declares."""

from __future__ import annotations

import sys
import traceback
from typing import Any

from torch import Tensor, nn

from distill.errors import RunError
from distill.losses.term import TermInputs, needs_of


class TermError(RunError):
    """A third-party term raised an exception; the message contains the shapes of the tensors that it got."""


def describe_failure(term: nn.Module, error: Exception, inputs: TermInputs) -> str:
    """Return a message about an exception that ``forward`` of a term raised.

    Args:
        term: The term.
        error: The exception.
        inputs: What the term got.

    Returns:
        The message of the exception alone if it was not raised in the file of the term.
    """
    file = getattr(sys.modules.get(type(term).__module__), "__file__", None)
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if not lines:
        return str(error)
    count = len(inputs.labels)
    declared = ", ".join(f"needs_{key}={value!r}" for key, value in needs_of(term)._asdict().items())
    return (
        f"{type(term).__name__} failed on {'two' if count == 2 else count} images with {type(error).__name__}: {error} "
        f"({file}, line {lines[-1].lineno}). It got {describe_inputs(inputs)}. The class declares {declared}."
    )


def describe_inputs(inputs: TermInputs) -> str:
    """Return the shapes of the tensors that a term gets.

    Example:
        >>> import torch
        >>> from distill.types import MapPair, StagedOutput
        >>> maps = {"final": MapPair(torch.ones(2, 4, 4), torch.ones(2, 8, 8))}
        >>> describe_inputs(TermInputs(StagedOutput(torch.ones(2, 3)), None, torch.zeros(2, dtype=torch.int64), maps))
        'logits (student (2, 3), no teacher), maps of final (student (2, 4, 4), teacher (2, 8, 8))'
    """
    parts = [f"logits ({_shapes(inputs.student.logits, inputs.teacher and inputs.teacher.logits)})"]
    for kind, pairs in (("maps", inputs.maps or {}), ("activations", inputs.activations)):
        parts += [f"{kind} of {layer} ({_shapes(*pair)})" for layer, pair in pairs.items()]
    return ", ".join(parts)


def _shapes(student: Any, teacher: Any) -> str:
    both = (("student", student), ("teacher", teacher))
    return ", ".join(
        f"{role} {tuple(value.shape)}" if isinstance(value, Tensor) else f"no {role}" for role, value in both
    )
