"""Random inputs, and comparison of scores with those of an oracle."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

NAN = float("nan")


def random(*shape: int, seed: int = 3) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def sparse(*shape: int, seed: int = 3) -> Tensor:
    """Maps with many equal pixels: multiples of 1/6, about half of them 0."""
    return (random(*shape, seed=seed) * 12 - 6).relu().round() / 6


def as_tensor(scores: Sequence[float | None]) -> Tensor:
    return torch.tensor([NAN if score is None else score for score in scores], dtype=torch.float64)


def close(got: Tensor, expected: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=atol, equal_nan=True, check_dtype=False)


def rows(maps: Tensor) -> list[list[float]]:
    return maps.flatten(1).tolist()
