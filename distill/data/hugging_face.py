"""The data set `huggingface`: a data set of the library `datasets`, from a local folder, its cache or the Hub."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import ImageOps

from distill.data.fashion_scenes import Split
from distill.data.file_set import check_options
from distill.data.folder_splits import SPLIT_NAMES
from distill.data.image_files import free_memory, to_rgb
from distill.data.imageset import ImageSet
from distill.data.partition import check_not_empty, split_rows
from distill.data.resizing import Canvas, Resize, fit
from distill.errors import InputError, unknown_name, warn_input
from distill.files import expand_home
from distill.importing import install_command

#: Files that `save_to_disk` writes.
_SAVED = ("dataset_dict.json", "state.json")


def huggingface(
    split: Split,
    *,
    path: str | Path,
    size: int,
    subset: str | None = None,
    revision: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    validation: float = 0.1,
    test: float | None = None,
    seed: int = 0,
    background: Canvas = "black",
    resize: Resize = "crop",
) -> ImageSet:
    """A data set of the library Hugging Face datasets, from a folder or by name.

    ``path`` is a folder that ``save_to_disk`` wrote, or anything that ``datasets.load_dataset`` loads without options:
    a folder of Parquet or image files, or a name on the Hub, which is downloaded unless it is cached. ``subset`` and
    ``revision`` choose a configuration and a version. The columns are found by their types, Image and ClassLabel; name
    them with ``image_column`` and ``label_column`` if there are several, or if the labels are numbers or names. A split
    that the data set does not have is a fraction of its training rows, ``validation`` or ``test``. Images are decoded
    once, into memory.
    """
    check_options(size=size, background=background, resize=resize)
    parts = _load(str(expand_home(path)), subset, revision)
    table = parts["train"]
    columns = _columns(str(path), table.features, image_column, label_column)
    labels, classes = _labels(str(path), {name: part[columns.label] for name, part in parts.items()}, table, columns)
    source = split if split in parts else "train"
    if source != split or split == "train":
        given = [name for name in parts if name != "train"]
        rows_of_train = torch.tensor(labels["train"], dtype=torch.int64)
        known = ["train"] * len(rows_of_train) + given  # one row for each given split, so that none is taken from train
        padded = torch.cat([rows_of_train, torch.zeros(len(given), dtype=torch.int64)])
        rows = split_rows(padded, known, split, name=str(path), validation=validation, test=test, seed=seed).tolist()
    else:
        rows = list(range(len(labels[split])))
    check_not_empty(len(rows), split)
    _check_memory(len(rows), size)
    images = torch.empty(len(rows), 3, size, size, dtype=torch.uint8)
    pictures = parts[source].select_columns([columns.image])
    for i, row in enumerate(rows):
        where = f"{path}, row {row} of the split {source}"
        images[i] = fit(
            _pixels(pictures, columns.image, row, where, background), size=size, resize=resize, background=background
        )
    return ImageSet(images, torch.tensor([labels[source][row] for row in rows], dtype=torch.int64), classes)


class _Columns(NamedTuple):
    image: str
    label: str


def _load(path: str, subset: str | None, revision: str | None) -> dict[str, Any]:
    """Return the parts of a data set by split; a data set without splits is ``train``."""
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"data.name: huggingface needs the package datasets: {install_command('huggingface')}"
        ) from error
    if int(datasets.__version__.partition(".")[0]) < 4:
        raise InputError(  # older versions execute scripts that are part of a data set
            f"data.name: huggingface needs datasets 4 or newer, got {datasets.__version__}: "
            f"{install_command('huggingface')}"
        )
    try:
        if any((Path(path) / name).is_file() for name in _SAVED):
            loaded = datasets.load_from_disk(path)
        else:
            loaded = datasets.load_dataset(path, subset, revision=revision)
    except Exception as error:  # the library raises many kinds of errors
        raise InputError(
            f"`path`: the data set {path!r} cannot be loaded: {type(error).__name__}: {error}. Give a folder, or a "
            "name on the Hub that is cached or can be downloaded."
        ) from error
    if not isinstance(loaded, Mapping):
        return {"train": loaded}
    found: dict[str, Any] = {}
    others = []
    for name, part in loaded.items():
        known = next((one for one, names in SPLIT_NAMES.items() if str(name).lower() in names), None)
        if known is None or known in found:
            others.append(str(name))
        else:
            found[known] = part
    if "train" not in found:
        raise InputError(f"`path`: {path} has no split train; it has {', '.join(map(str, loaded))}.")
    if others:
        warn_input(f"{path}: the splits {', '.join(others)} are not used.")
    return found


def _columns(path: str, features: Mapping[str, Any], image: str | None, label: str | None) -> _Columns:
    """Find the columns of images and labels by their types, unless they are named."""
    found = []
    for key, name, kind in (("image_column", image, "Image"), ("label_column", label, "ClassLabel")):
        if name is not None and name not in features:
            raise InputError(f"`{key}`: {path}: {unknown_name('column', name, features)}.")
        of_kind = [one for one, feature in features.items() if type(feature).__name__ == kind]
        if name is None and len(of_kind) != 1:
            shown = ", ".join(f"{one} ({type(feature).__name__})" for one, feature in features.items())
            raise InputError(
                f"`{key}`: {path} has {len(of_kind) or 'no'} columns of type {kind}; name the column. Its columns are "
                f"{shown}."
            )
        found.append(name or of_kind[0])
    if type(features[found[0]]).__name__ != "Image":
        raise InputError(
            f"`image_column`: {path}: {found[0]!r} is of type {type(features[found[0]]).__name__}, not Image."
        )
    return _Columns(*found)


def _labels(
    path: str, cells: Mapping[str, Any], table: Any, columns: _Columns
) -> tuple[dict[str, list[int]], tuple[str, ...]]:
    """Return the class numbers by split, and the names of the classes."""
    values = {split: list(column) for split, column in cells.items()}
    for split, column in values.items():
        bad = [row for row, value in enumerate(column) if value is None or value == -1]
        if bad:
            raise InputError(
                f"`label_column`: {path}: {len(bad)} of {len(column)} rows of the split {split} have no label, such as "
                f"row {bad[0]}, counted from 0. Remove the split or the rows."
            )
    names = getattr(table.features[columns.label], "names", None)
    if names is not None:
        return {split: [int(value) for value in column] for split, column in values.items()}, tuple(names)
    kinds = Counter(type(value) for column in values.values() for value in column)
    if set(kinds) not in ({int}, {str}, {bool}):
        shown = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise InputError(f"`label_column`: {path}: expected numbers or names in {columns.label!r}, got {shown}.")
    order = sorted({value for column in values.values() for value in column})
    position = {value: i for i, value in enumerate(order)}
    return {split: [position[v] for v in column] for split, column in values.items()}, tuple(map(str, order))


def _check_memory(count: int, size: int) -> None:
    needed, free = count * 3 * size * size, free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"{count} images of {size} x {size} pixels need {needed / 1e9:.1f} GB of memory, but only {free / 1e9:.1f} "
            "GB are free; use a smaller `size`, or write the images to files and use image_folder or table."
        )


def _pixels(table: Any, column: str, row: int, where: str, background: Canvas) -> torch.Tensor:
    try:
        image = table[row][column]
        if image is None:
            raise InputError(f"{where} has no image.")
        upright = ImageOps.exif_transpose(image)
        return torch.from_numpy(np.array(to_rgb(upright, where, background=background)))
    except InputError:
        raise
    except Exception as error:  # decoders raise many kinds of errors for damaged images
        raise InputError(f"cannot decode {where}: {error}; remove the row.") from error
