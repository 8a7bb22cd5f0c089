"""Looking without changing what is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def untouched(model: object) -> Iterator[None]:
    """Let a network run, in whatever mode it is, and give back its buffers and the random state as they were.

    Convention:
        - The pass works on copies of the buffers, and the originals are put back: a graph made in the pass stays valid.
        - A network that is all in evaluation mode changes nothing by itself and is left alone.

    Example:
        >>> norm = nn.BatchNorm2d(2)
        >>> with untouched(norm):
        ...     _ = norm(torch.rand(4, 2, 3, 3) + 1)
        >>> norm.running_mean
        tensor([0., 0.])
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    if not any(module.training for module in modules):
        yield
        return
    kept = [(module, name, buffer) for module in modules for name, buffer in module._buffers.items()]
    devices = {buffer.device for _, _, buffer in kept if buffer is not None and buffer.is_cuda}
    with torch.random.fork_rng(devices=list(devices)):
        try:
            with torch.inference_mode(False):  # what was made in inference mode would be lost to a graph
                for module, name, buffer in kept:
                    module._buffers[name] = None if buffer is None else buffer.clone()
            yield
        finally:
            for module, name, buffer in kept:
                module._buffers[name] = buffer
