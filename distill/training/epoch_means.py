"""Means over an epoch of values that stay on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class EpochMeans(nn.Module):
    """Means of named values over the samples of an epoch; a step may leave out some of the values.

    Convention:
        - The sums are part of the state dict, so a run that stops within an epoch resumes to the mean of the whole
          epoch.
        - ``update`` does not read any value on the host.

    Args:
        names: Names of all values that can occur.

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
        """Add the batch means of one step.

        Args:
            values: Mean over the batch, by name.
            samples: Number of samples in the batch.
        """
        zero = self.sums.new_zeros(())
        sums = [values[name].detach().float() * samples if name in values else zero for name in self.names]
        counts = torch.tensor([samples if name in values else 0 for name in self.names], dtype=torch.float32)
        self.sums = self.sums + torch.stack(sums)
        self.samples = self.samples + counts.to(self.samples.device, non_blocking=True)

    def pop(self) -> dict[str, Tensor]:
        """Return the means of the values that occurred, and reset; reads the device."""
        counts = self.samples.tolist()
        means = {name: self.sums[i] / self.samples[i] for i, name in enumerate(self.names) if counts[i]}
        self.sums, self.samples = torch.zeros_like(self.sums), torch.zeros_like(self.samples)
        return means
