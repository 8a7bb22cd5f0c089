"""`FrozenTeacher`: a network in evaluation mode, without gradients, that is not a submodule of the training module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill.models import StagedNetwork, fold_batch_norm
from distill.types import StagedOutput


class FrozenTeacher:
    """Wraps a network so that optimiser, checkpoint, data parallelism and ``train()`` do not affect it.

    This class is deliberately not a module: a module assigned to an attribute of the training module would become part
    of its state.

    Args:
        network: The teacher. A copy is used, in evaluation mode, with batch normalisation folded into convolutions
            where that is exact.
        layers: Layers to be explained; folding does not change their outputs.
        compile: Whether to run the forward pass with torch.compile.
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
        """Run the network without gradients, on the device of the images, and return logits and activations."""
        if self.network.normalise.mean.device != images.device:
            self.network.to(images.device)
        with torch.no_grad():
            return self._run(images, layers)
