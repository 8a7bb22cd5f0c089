"""Means over an epoch, kept on the device and in the state of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class EpochMeans(nn.Module):
    """Mean over samples of named values, some of which may be missing in a step.

    Part of the state, so that a run stopped within an epoch goes on to the mean of it all. Reads nothing on the host.

    Args:
        names: Of all values there can be.

    Example:
        >>> means = EpochMeans(["a", "b"])
        >>> means.update({"a": torch.tensor(1.0)}, samples=1)
        >>> means.update({"a": torch.tensor(4.0), "b": torch.tensor(2.0)}, samples=2)
        >>> means.pop()
        {'a': tensor(3.), 'b': tensor(2.)}
    """

    sums: Tensor
    samples: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("sums", torch.zeros(len(self.names)))
        self.register_buffer("samples", torch.zeros(len(self.names)))

    def update(self, values: Mapping[str, Tensor], *, samples: int) -> None:
        """Add the mean of so many samples."""
        nothing = self.sums.new_zeros(())
        given = [values[name].detach().float() * samples if name in values else nothing for name in self.names]
        counts = torch.tensor([samples if name in values else 0 for name in self.names], dtype=torch.float32)
        self.sums = self.sums + torch.stack(given)
        self.samples = self.samples + counts.to(self.samples.device, non_blocking=True)

    def pop(self) -> dict[str, Tensor]:
        """Give the mean of what was there at all, and begin anew; reads the device."""
        found = self.samples.tolist()
        means = {name: self.sums[i] / self.samples[i] for i, name in enumerate(self.names) if found[i]}
        self.sums, self.samples = torch.zeros_like(self.sums), torch.zeros_like(self.samples)
        return means
