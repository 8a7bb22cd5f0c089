"""Reading the layers of a network, staged or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from distill.hooked import run_hooked
from distill.types import StagedOutput


@runtime_checkable
class Readable(Protocol):
    """A network whose layers can be read in one forward pass."""

    def run(self, images: Tensor, layers: Sequence[str] = ()) -> StagedOutput:
        """Compute the logits and read layers on the way."""


def read_layers(model: Readable | nn.Module, images: Any, layers: Sequence[str]) -> StagedOutput:
    """Run a network once and read layers on the way: by itself if it can, else by temporary hooks."""
    return model.run(images, layers) if isinstance(model, Readable) else run_hooked(model, images, layers)
