"""Data sets of a user, for tests: named `tests.data.own_sets:...` in a configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset


class Shades(Dataset[Any]):
    """Images whose grey value tells class and number: 60 c + i."""

    def __init__(self, numbers: range, *, objects: int = 0, names: bool = True, size: int = 16) -> None:
        self.numbers, self.objects, self.size = numbers, objects, size
        if names:
            self.classes = ["dark", "grey", "bright"]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, position: int) -> tuple[Any, ...]:
        number = self.numbers[position]
        label = number % 3
        pixels = np.full((self.size, self.size, 3), 60 * label + number % 60, np.uint8)
        item = (Image.fromarray(pixels), label)
        boxes = [[0, 0, 4 + k, 4.5] for k in range(number % 2 + 1)]
        mask = torch.zeros(self.size, self.size, dtype=torch.int64)
        mask[:4, :4] = 1
        return {0: item, 1: (*item, boxes), 2: (*item, boxes, mask)}[self.objects]


def single(count: int = 60, objects: int = 0, names: bool = True) -> Shades:
    return Shades(range(count), objects=objects, names=names)


def triple(count: int = 60, with_test: bool = True) -> tuple[Any, ...]:
    return Shades(range(count)), Shades(range(count, count + 12)), Shades(range(9)) if with_test else None


def mapping() -> dict[str, Any]:
    return {"train": Shades(range(30)), "Val": Shades(range(30, 39)), "test": Shades(range(40, 46))}


def by_split(split: str, seed: int = 0, names: bool = True, **others: Any) -> Shades | None:
    start = {"train": 0, "validation": 30}
    return Shades(range(start[split], start[split] + 12 + seed), names=names) if split in start else None


def broken() -> Any:
    raise KeyError("photos")


def unnamed_splits() -> tuple[Any, ...]:
    """Splits without class names; validation and test lack the last class."""
    return Shades(range(30), names=False), [Shades(range(30), names=False)[i] for i in (0, 1, 3)], None


def misnamed() -> dict[str, Any]:
    return {"trian": Shades(range(30))}


def no_data() -> int:
    return 3


VALUE = 3
