"""Call any network, in evaluation mode or without compilation, and read its logits or the output of a module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only


@contextmanager
def evaluation(network: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode, and restore the mode of each module afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def uncompiled(network: nn.Module) -> Iterator[None]:
    """Run compiled modules without compilation."""
    if any(getattr(m, "_compiled_call_impl", None) or hasattr(m, "_orig_mod") for m in network.modules()):
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield


def call_network(network: nn.Module, inputs: Any) -> Any:
    """Call a network; a tuple is passed as positional arguments and a mapping as keyword arguments."""
    if isinstance(inputs, Mapping):
        return network(**inputs)
    return network(*inputs) if isinstance(inputs, tuple) else network(inputs)


def read_logits(output: Any) -> Tensor:
    """Return the logits in the output of a network: the output itself, or its attribute ``logits``.

    Raises:
        ValueError: If the output contains no logits (samples, classes).
    """
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ValueError(
            "a network must return logits (samples, classes) or an object with an attribute `logits`, got "
            f"{tuple(logits.shape) if isinstance(logits, Tensor) else type(output).__name__}; wrap it in a module that "
            "returns the logits to explain."
        )
    return logits


def read_again(network: nn.Module, module: nn.Module, inputs: Any, images: Tensor) -> Tensor:
    """Return the last output of a module for other images; ``inputs`` is the form in which the network takes them."""
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda _, inputs, output: outputs.append(output.clone()))
    try:
        call_network(network, tree_map_only(Tensor, lambda _: images, inputs))
    finally:
        handle.remove()
    return outputs[-1]


@contextmanager
def preserve_state(model: object) -> Iterator[None]:
    """Restore the buffers of a network and the random state on exit.

    Convention:
        - Forward passes inside the context use copies of the buffers, so graphs created inside remain valid.
        - Nothing is copied if all modules are in evaluation mode, because they do not change buffers.

    Example:
        >>> norm = nn.BatchNorm2d(2)
        >>> with preserve_state(norm):
        ...     _ = norm(torch.rand(4, 2, 3, 3) + 1)
        >>> norm.running_mean
        tensor([0., 0.])
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    if not any(module.training for module in modules):
        yield
        return
    buffers = [(module, name, buffer) for module in modules for name, buffer in module._buffers.items()]
    devices = {buffer.device for _, _, buffer in buffers if buffer is not None and buffer.is_cuda}
    with torch.random.fork_rng(devices=list(devices)):
        try:
            with torch.inference_mode(False):  # autograd cannot use tensors created in inference mode
                for module, name, buffer in buffers:
                    module._buffers[name] = None if buffer is None else buffer.clone()
            yield
        finally:
            for module, name, buffer in buffers:
                module._buffers[name] = buffer
