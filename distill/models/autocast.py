"""Capture and restore the autocast state, so that later operations run in the precision of a forward pass."""

from __future__ import annotations

from typing import NamedTuple

import torch


class AutocastState(NamedTuple):
    """Whether autocast is enabled for a device type, and its dtype.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     state = AutocastState.capture("cpu")
        >>> with state.restore():
        ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
        torch.bfloat16
    """

    device: str
    enabled: bool
    dtype: torch.dtype

    @classmethod
    def capture(cls, device: str) -> AutocastState:
        """Return the current state for a device type."""
        return cls(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))

    def restore(self) -> torch.autocast:
        """Return a context manager that applies this state."""
        return torch.autocast(self.device, self.dtype, enabled=self.enabled)
