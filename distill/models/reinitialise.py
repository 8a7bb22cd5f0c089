"""Give a network new random weights without building it again."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def reinitialise(network: Network) -> Network:
    """Return a copy of a network on the CPU with new random weights.

    Convention:
        - A module with a method ``reset_parameters`` (or ``_reset_parameters``) that needs no arguments, as the layers
          of torch have it, is initialised by that method. Modules inside a module come before it. Batch normalisation
          also gets new statistics.
        - Parameters of a module without such a method are drawn from a normal distribution with the mean and the
          standard deviation of their present values; its buffers stay.
        - The random numbers are those of torch's generator of the CPU.

    Args:
        network: The network; it does not change.

    Returns:
        The copy, in the mode of the network.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> trained = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        >>> _ = trained[1].weight.data.fill_(7.0)
        >>> reinitialise(trained)[1].weight.tolist(), trained[1].weight.tolist()
        ([1.0, 1.0, 1.0], [7.0, 7.0, 7.0])
    """
    with torch.inference_mode(False):
        changed = copy.deepcopy(network).cpu()
    with torch.no_grad():
        for module in reversed(list(changed.modules())):  # modules inside a module come after it in this list
            reset = _find_reset(module)
            if reset is not None:
                reset()
                continue
            for parameter in module.parameters(recurse=False):
                if parameter.is_floating_point() and parameter.numel() > 1:
                    parameter.normal_(float(parameter.mean()), float(parameter.std()))
    return changed


def _find_reset(module: nn.Module) -> Callable[[], object] | None:
    for name in ("reset_parameters", "_reset_parameters"):
        method = getattr(module, name, None)
        if callable(method):
            try:
                inspect.signature(method).bind()
            except (TypeError, ValueError):  # it needs arguments
                continue
            return method
    return None
