"""The data set `image_folder`: image files in one folder per class."""

from __future__ import annotations

from pathlib import Path

import torch

from distill.data.fashion_scenes import Split
from distill.data.file_set import OnError, check_options, file_set
from distill.data.folder_splits import split_folders
from distill.data.image_listing import list_images
from distill.data.imageset import ImageSet
from distill.data.partition import partition
from distill.data.resizing import Canvas, Resize
from distill.errors import InputError


def image_folder(
    split: Split,
    *,
    root: str | Path,
    size: int,
    validation: float = 0.1,
    test: float | None = None,
    seed: int = 0,
    in_memory: bool | None = None,
    background: Canvas = "black",
    resize: Resize = "crop",
    on_error: OnError = "fail",
) -> ImageSet:
    """Image files in one folder per class, resized to squares of ``size`` pixels.

    ``root`` contains the class folders, or ``train/`` with the class folders and optionally ``validation/`` and
    ``test/``. The names training, valid, val, dev and testing, and other cases, are read as well; hidden files and
    folders are not. A split without its own folder is a fraction of the training images, ``validation`` or
    ``test``. ``test`` defaults to 0.1, or to 0 (no test split) if there is a validation folder.
    If ``in_memory`` is true, all images are decoded once; if false, they are decoded each time they are used. By
    default they are decoded once if they take less than half of the free memory.
    ``background``, black or white, is the colour behind transparent pixels.
    ``resize`` is what is done with an image that is not square: ``crop`` uses its central square, ``squeeze`` distorts
    it, ``pad`` fills it up with ``background``.
    ``on_error``: with ``fail``, a file that cannot be decoded is an error; with ``skip``, all files are decoded once at
    the start, and those that cannot be decoded are left out, listed in a warning and counted in the run's record.
    """
    root = Path(root)
    check_options(size=size, background=background, resize=resize, on_error=on_error)
    folders = split_folders(root)
    train = folders.pop("train", root)
    classes, files, labels = list_images(train)
    if split in folders:
        split_classes, files, labels = list_images(folders[split])
        if split_classes != classes:
            raise InputError(
                f"{folders[split]} has the classes {', '.join(split_classes)}, but {train} has {', '.join(classes)}; "
                "give both the same class folders."
            )
    else:
        if test is None:
            test = 0.0 if "validation" in folders else 0.1
        if split == "test" and test == 0:
            raise InputError(
                f"{root} has no test split: add a folder {root / 'test'}, or train with the option `test`, the "
                "fraction of the training images to use for testing."
            )
        fractions = {"validation": validation, "test": test} | dict.fromkeys(folders, 0.0)
        index = partition(torch.tensor(labels), seed=seed, **fractions)[split].tolist()
        files, labels = [files[i] for i in index], [labels[i] for i in index]
    return file_set(
        files,
        torch.tensor(labels),
        classes,
        split=split,
        size=size,
        in_memory=in_memory,
        background=background,
        resize=resize,
        on_error=on_error,
    )
