"""The precision of a forward pass, so that what follows of it later runs as it ran."""

from __future__ import annotations

from typing import NamedTuple

import torch


class AutocastState(NamedTuple):
    """Whether operations on a kind of device are cast to a narrower type, and to which.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     kept = AutocastState.capture("cpu")
        >>> with kept.restore():
        ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
        torch.bfloat16
    """

    device: str
    enabled: bool
    dtype: torch.dtype

    @classmethod
    def capture(cls, device: str) -> AutocastState:
        """Read the setting that holds here."""
        return cls(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))

    def restore(self) -> torch.autocast:
        """Make the setting hold for a while."""
        return torch.autocast(self.device, self.dtype, enabled=self.enabled)
