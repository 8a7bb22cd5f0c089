"""`precision: auto`, which is ours and not Lightning's."""

from __future__ import annotations

import torch


def resolve_precision(precision: str | int, accelerator: str = "auto") -> str | int:
    """Replace ``auto`` by bfloat16 autocast where the hardware computes in it, else by float32.

    Example:
        >>> resolve_precision("32-true")
        '32-true'
    """
    if precision != "auto":
        return precision
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    capable = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bf16-mixed" if capable and accelerator in ("auto", "cpu") else "32-true"
