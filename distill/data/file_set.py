"""An :class:`~distill.data.ImageSet` of image files: decode them once or on access, and leave out damaged ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from jaxtyping import Int
from torch import Tensor

from distill.data.image_files import DecodedImages, ImageFile, find_unreadable, free_memory, read_images
from distill.data.imageset import ImageSet
from distill.data.partition import check_not_empty
from distill.data.resizing import Canvas, Resize
from distill.errors import InputError, closest, warn_input

#: What is done with a file that cannot be decoded.
OnError = Literal["fail", "skip"]
#: Number of names that a message lists.
LISTED = 10
_CHOICES: dict[str, Any] = {"background": Canvas, "resize": Resize, "on_error": OnError}


def check_options(*, size: int, **choices: str) -> None:
    """Check the options that all data sets of image files have.

    Args:
        size: Height and width of the images, in pixels.
        choices: ``background``, ``resize`` and ``on_error``.

    Raises:
        InputError: If one of them has another value than those allowed.
    """
    if isinstance(size, bool) or not isinstance(size, int):
        raise InputError(f"`size` must be a whole number of pixels, got {size!r}.")
    if size < 1:
        raise InputError(f"`size` must be 1 pixel or more, got {size}.")
    for name, value in choices.items():
        *others, last = get_args(_CHOICES[name])
        if value not in (*others, last):
            near = closest(str(value), (*others, last))
            hint = f"; did you mean {near!r}?" if near else "."
            raise InputError(f"`{name}` must be {', '.join(others)} or {last}, got {value!r}{hint}")


def file_set(
    files: Sequence[ImageFile],
    labels: Int[Tensor, " n"],
    classes: tuple[str, ...],
    *,
    split: str,
    size: int,
    in_memory: bool | None,
    background: Canvas,
    resize: Resize,
    on_error: OnError,
    boxes: Int[Tensor, "n m 4"] | None = None,
) -> ImageSet:
    """Make the image set of a list of image files.

    Args:
        files: The image files.
        labels: The class of each.
        classes: Names of the classes.
        split: Name of the split, for messages.
        size: Height and width of the images, in pixels.
        in_memory: Whether all images are decoded once, or each time they are used; None: once, if they take less than
            half of the free memory.
        background: Colour behind transparent pixels, and beside images that are filled up to squares.
        resize: What is done with images that are not square, see :func:`distill.data.resizing.place`.
        on_error: Whether a file that cannot be decoded is an error, or is left out.
        boxes: Boxes in the resized images.

    Raises:
        InputError: If there are no images, a file cannot be decoded, or the images do not fit into memory.
    """
    check_not_empty(len(files), split)
    skipped: tuple[str, ...] = ()
    if on_error == "skip" and (errors := find_unreadable(files, size, background)):
        skipped = tuple(str(files[position]) for position in errors)
        warn_input(
            f"the split {split}: {len(errors)} of {len(files)} images cannot be decoded and are skipped: "
            f"{listed(skipped)}."
        )
        if len(errors) == len(files):
            raise InputError(f"the split {split}: none of the {len(files)} images can be decoded: {listed(skipped)}.")
        kept = [position for position in range(len(files)) if position not in errors]
        files, labels = [files[position] for position in kept], labels[kept]
        boxes = None if boxes is None else boxes[kept]
    if in_memory is None:
        free = free_memory()
        in_memory = free is None or 2 * len(files) * 3 * size * size < free
    if in_memory:
        images = read_images(files, size, background, resize)
    else:
        images = DecodedImages(files, size, background, resize).as_tensor()
    return ImageSet(images, labels, classes, boxes, skipped=skipped)


def listed(names: Sequence[object]) -> str:
    """Return the first ten names, and the number of the others.

    Example:
        >>> listed(["a", "b"]), listed(range(12))
        ('a, b', '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more')
    """
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(map(str, names[:LISTED])) + more
