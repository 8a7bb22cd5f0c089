"""How a network is called, whatever it takes and returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def call_network(network: nn.Module, inputs: Any) -> Any:
    """Hand on inputs: a tuple by position, a mapping by name."""
    if isinstance(inputs, Mapping):
        return network(**inputs)
    return network(*inputs) if isinstance(inputs, tuple) else network(inputs)


def read_logits(output: Any) -> Tensor:
    """Find the logits in what a network returned.

    Raises:
        ValueError: if there are none.
    """
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ValueError(
            "a network must return logits (samples, classes) or a record with an attribute `logits`, got "
            f"{tuple(logits.shape) if isinstance(logits, Tensor) else type(output).__name__}; wrap it in a module that "
            "returns what is to be explained."
        )
    return logits


@contextmanager
def uncompiled(network: nn.Module) -> Iterator[None]:
    """Run modules that were compiled as they were written."""
    if any(getattr(m, "_compiled_call_impl", None) or hasattr(m, "_orig_mod") for m in network.modules()):
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield
