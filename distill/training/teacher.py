"""The teacher as training sees it: frozen, in evaluation mode for good, and nobody's submodule."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill.models import StagedNetwork
from distill.types import StagedOutput


class FrozenTeacher:
    """Hold a network where neither optimiser, checkpoint, data parallelism nor ``train()`` can reach it.

    Not a module on purpose: a module's attribute that is one becomes part of its state.

    Args:
        network: The teacher; its parameters stop requiring gradients.
    """

    def __init__(self, network: StagedNetwork) -> None:
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def __call__(self, images: Float[Tensor, "n c h w"], layers: Sequence[str]) -> StagedOutput:
        """Run the trunk without a graph, on the device of the images."""
        if self.network.normalise.mean.device != images.device:
            self.network.to(images.device)
        with torch.no_grad():
            return self.network.run(images, layers)
