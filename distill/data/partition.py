"""Partition of a set of images into training, validation and test images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int, Int64
from torch import Tensor

from distill.data.counted import Purpose, permutation
from distill.errors import InputError


def partition(
    labels: Int[Tensor, " n"], *, seed: int, validation: float, test: float = 0.0
) -> dict[str, Int64[Tensor, " m"]]:
    """Split a set into ``train``, ``validation`` and ``test``, stratified by class.

    Convention:
        - The fractions apply to each class separately, rounded to whole images.
        - The splits are disjoint, cover the set and keep its order. They depend on ``labels``, ``seed`` and the
          fractions; the validation images do not depend on ``test``.

    Args:
        labels: Class of each image.
        seed: Determines which images go into which split.
        validation: Fraction of the images for validation, 0 or more.
        test: Fraction of the images for testing, 0 or more.

    Returns:
        The positions of the images of each split.

    Raises:
        InputError: if a fraction is negative, or the two fractions sum to 1 or more.

    Example:
        >>> parts = partition(torch.tensor([0, 1] * 5), seed=0, validation=0.2)
        >>> {name: len(part) for name, part in parts.items()}
        {'train': 8, 'validation': 2, 'test': 0}
    """
    if min(validation, test) < 0 or validation + test >= 1:
        raise InputError(
            f"`validation` and `test` are fractions of the training images: they must be 0 or more and their sum less "
            f"than 1; got {validation} and {test}."
        )
    classes = labels.numpy()
    shuffled = permutation(len(classes), Purpose.PARTITION, seed=seed)
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    sizes = np.bincount(classes)
    rank = np.empty(len(classes), np.int64)
    rank[by_class] = np.arange(len(classes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    first = np.rint(validation * sizes).astype(np.int64)
    second = first + np.rint(test * sizes).astype(np.int64)
    members = {
        "train": rank >= second[classes],
        "validation": rank < first[classes],
        "test": (rank >= first[classes]) & (rank < second[classes]),
    }
    return {name: torch.from_numpy(np.flatnonzero(member)) for name, member in members.items()}


def split_rows(
    labels: Int[Tensor, " n"],
    splits: Sequence[str] | None,
    split: str,
    *,
    name: str,
    validation: float,
    test: float | None,
    seed: int,
) -> Int64[Tensor, " m"]:
    """Return the positions of a split's images; a split that is not given is a fraction of the training images.

    Args:
        labels: Class of each image.
        splits: Split of each image, if it is given.
        split: The split.
        name: Name of the data set, for messages.
        validation: Fraction of the training images for validation.
        test: Fraction for testing; None for 0.1, or 0 if there are validation images.
        seed: Determines which images go into which split.

    Raises:
        InputError: If there are no training images, or no test images can be had.
    """
    given = set(splits or ["train"])
    if "train" not in given:
        raise InputError(f"{name} has no row of the split train; it has only {', '.join(sorted(given))}.")
    if splits is not None and split != "train" and split in given:
        return torch.tensor([row for row, one in enumerate(splits) if one == split])
    if test is None:
        test = 0.0 if "validation" in given else 0.1
    if split == "test" and test == 0:
        raise InputError(
            f"{name} has no test split: add rows of the split test, or train with the option `test`, the fraction of "
            "the training images to use for testing."
        )
    rows = (
        torch.arange(len(labels)) if splits is None else torch.tensor([i for i, s in enumerate(splits) if s == "train"])
    )
    fractions = {"validation": validation, "test": test} | dict.fromkeys(given - {"train"}, 0.0)
    return rows[partition(labels[rows], seed=seed, **fractions)[split]]


def check_not_empty(n: int, split: str) -> None:
    """Raise an error if a split has no images.

    Raises:
        InputError: If ``n``, the number of its images, is 0.
    """
    if n == 0:
        raise InputError(f"the split {split} has no images: increase the fraction `{split}`, or add images.")
