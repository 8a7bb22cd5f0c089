"""Operations of torch that have no second derivative, in a form that has one: hardsigmoid and attention."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

#: The factor in torch's own gradient of hardsigmoid, which is a float32 for every type.
_SIXTH = float(torch.tensor(1 / 6, dtype=torch.float32))


class _Hardsigmoid(torch.autograd.Function):
    """The values and the gradient of ``F.hardsigmoid``, bit for bit, with a gradient of the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.hardsigmoid(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.where((x > -3) & (x < 3), gradient * _SIXTH, 0)


def hardsigmoid(x: Tensor) -> Tensor:
    """Return ``F.hardsigmoid(x)``, which can be differentiated twice.

    Example:
        >>> x = torch.tensor([-4.0, 0.0, 4.0], requires_grad=True)
        >>> hardsigmoid(x)
        tensor([0.0000, 0.5000, 1.0000], grad_fn=<_HardsigmoidBackward>)
    """
    result: Tensor = _Hardsigmoid.apply(x)
    return result


def math_attention() -> AbstractContextManager[None]:
    """Compute ``scaled_dot_product_attention`` by ordinary operations; the fused kernels have no second derivative."""
    return sdpa_kernel(SDPBackend.MATH)
