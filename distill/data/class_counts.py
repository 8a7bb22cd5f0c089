"""Check how many images every class of a split has."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from distill.data.imageset import ImageSet
from distill.errors import InputError, warn_input

#: Number of class names that a message lists.
_LISTED = 5


def check_class_counts(data: ImageSet, *, split: str, name: str) -> None:
    """Check that a split for training has images of two or more classes, and warn about classes with too few images.

    Args:
        data: The images of the split.
        split: ``train`` or ``validation``.
        name: Name of the data set, for messages.

    Raises:
        InputError: If the split has no images, the data set has fewer than two classes, or the images have several
            labels.

    Example:
        >>> data = ImageSet(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(3).long(), ("cat",))
        >>> check_class_counts(data, split="train", name="pets")
        Traceback (most recent call last):
        distill.errors.InputError: the data set pets has a single class, 'cat'; a classifier needs two or more. Add ...
    """
    if not len(data):
        raise InputError(f"the split {split} of the data set {name} has no images; add images.")
    if len(data.classes) < 2:
        raise InputError(
            f"the data set {name} has a single class, {data.classes[0]!r}; a classifier needs two or more. Add images "
            "of another class, or set `data.root` to the folder that contains the class folders."
        )
    warn_about_classes(data, where=f"the split {split} of the data set {name}", training=split == "train")


def warn_about_classes(data: ImageSet, *, where: str, training: bool = False) -> None:
    """Warn about classes without images, and in training about classes with a single image.

    Args:
        data: The images.
        where: What the message calls them, such as ``test set 'plain'``.
        training: Whether a network is trained on them; otherwise it is measured on them.

    Raises:
        InputError: If the images have several labels.
    """
    if data.multilabel:
        raise InputError(
            f"{where} has several labels per image, but networks are trained and evaluated on one class per image. Set "
            "`data.labels: one`, or use another data set."
        )
    counts = torch.bincount(data.labels.cpu(), minlength=len(data.classes)).tolist()
    empty = [name for name, count in zip(data.classes, counts, strict=True) if count == 0]
    single = [name for name, count in zip(data.classes, counts, strict=True) if count == 1]
    problems = []
    if empty:
        remedy = "the network cannot learn to predict them" if training else "nothing is measured for them"
        problems.append(f"no image of {_listed(empty)}: {remedy}")
    if single and training:
        problems.append(f"only one image of {_listed(single)}")
    if problems:
        warn_input(f"{where} has {'; and '.join(problems)}. Add images, or remove these classes.")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_LISTED])
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{'class' if len(names) == 1 else 'the classes'} {shown}{rest}"
