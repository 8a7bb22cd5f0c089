"""When a term counts, and how much."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TermSchedule:
    """A factor on the weight of a term over a run.

    Args:
        every: The term counts in every K-th step only, from step 0; its weight is not raised for that.
        start_epoch: Nothing before this epoch (counted from 0, fractions allowed).
        ramp_epochs: From there the factor rises linearly from 0 to 1 over so many epochs.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> schedule = TermSchedule(start_epoch=2.0, ramp_epochs=4.0)
        >>> [schedule.factor(epoch=epoch, step=0) for epoch in (1.9, 2.0, 3.0, 6.0, 9.0)]
        [0.0, 0.0, 0.25, 1.0, 1.0]
    """

    every: int = 1
    start_epoch: float = 0.0
    ramp_epochs: float = 0.0

    def __post_init__(self) -> None:
        if self.every < 1 or self.start_epoch < 0 or self.ramp_epochs < 0:
            raise ValueError(f"`every` must be at least 1, the epochs at least 0; got {self}.")

    def factor(self, *, epoch: float, step: int) -> float:
        """Give the factor at an epoch, fractions included, and a step of the run."""
        if step % self.every or epoch < self.start_epoch:
            return 0.0
        if self.ramp_epochs == 0:
            return 1.0
        return min((epoch - self.start_epoch) / self.ramp_epochs, 1.0)
