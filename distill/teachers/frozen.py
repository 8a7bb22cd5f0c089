"""The teacher as training sees it: frozen, in evaluation mode for good, and nobody's submodule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill.models import StagedNetwork, fold_batch_norm
from distill.types import StagedOutput


class FrozenTeacher:
    """Hold a network where neither optimiser, checkpoint, data parallelism nor ``train()`` can reach it.

    Not a module on purpose: a module's attribute that is one becomes part of its state.

    Args:
        network: The teacher; what runs is a copy of it, in evaluation mode, with batch normalisation folded into
            convolutions where that is exact.
        layers: Those that will be explained; their own outputs are kept.
        compile: Whether the forward pass goes through torch.compile.
    """

    def __init__(self, network: StagedNetwork, *, layers: Iterable[str] = (), compile: bool = False) -> None:
        training = network.training
        try:
            self.network = fold_batch_norm(network.eval(), keep=layers)
        finally:
            network.train(training)
        self.network.requires_grad_(False).to(memory_format=torch.channels_last)
        self._run: Callable[..., StagedOutput] = torch.compile(self.network.run) if compile else self.network.run

    def __call__(self, images: Float[Tensor, "n c h w"], layers: Sequence[str]) -> StagedOutput:
        """Run the trunk without a graph, on the device of the images."""
        if self.network.normalise.mean.device != images.device:
            self.network.to(images.device)
        with torch.no_grad():
            return self._run(images, layers)
