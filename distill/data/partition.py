"""Setting a part of a training set aside, the same part every time."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int, Int64
from torch import Tensor

from distill.data.counted import Purpose, permutation
from distill.errors import InputError


def partition(
    labels: Int[Tensor, " n"], *, seed: int, validation: float, test: float = 0.0
) -> dict[str, Int64[Tensor, " m"]]:
    """Divide a set class by class into ``train``, ``validation`` and ``test``.

    Convention:
        - Each class gives the fractions of its own size, rounded to whole images.
        - The parts are disjoint, together they are the set, and they keep its order. They depend on ``labels``,
          ``seed`` and the fractions; the images set aside for validation do not depend on ``test``.

    Raises:
        InputError: if a fraction is negative, or the two leave nothing to train on.

    Example:
        >>> parts = partition(torch.tensor([0, 1] * 5), seed=0, validation=0.2)
        >>> {name: len(part) for name, part in parts.items()}
        {'train': 8, 'validation': 2, 'test': 0}
    """
    if min(validation, test) < 0 or validation + test >= 1:
        raise InputError(
            f"`validation` and `test` are fractions of the training images: 0 or more, and less than 1 together; "
            f"got {validation} and {test}."
        )
    classes = labels.numpy()
    shuffled = permutation(len(classes), Purpose.PARTITION, seed=seed)
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    sizes = np.bincount(classes)
    rank = np.empty(len(classes), np.int64)
    rank[by_class] = np.arange(len(classes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    first = np.rint(validation * sizes).astype(np.int64)
    second = first + np.rint(test * sizes).astype(np.int64)
    chosen = {
        "train": rank >= second[classes],
        "validation": rank < first[classes],
        "test": (rank >= first[classes]) & (rank < second[classes]),
    }
    return {name: torch.from_numpy(np.flatnonzero(part)) for name, part in chosen.items()}
