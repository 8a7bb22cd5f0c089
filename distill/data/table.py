"""The data set `table`: image files that a CSV or Parquet file lists, with labels, splits and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from distill.data.fashion_scenes import Split
from distill.data.file_set import OnError, check_options, file_set, listed
from distill.data.image_files import open_image
from distill.data.imageset import ImageSet
from distill.data.partition import split_rows
from distill.data.resizing import Canvas, Resize, fit_boxes
from distill.data.table_file import Column, ImageTable, read_table
from distill.errors import InputError, warn_input

#: Number of the EXIF tag of the orientation; values from 5 are images that lie on their side.
_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)


def table(
    split: Split,
    *,
    root: str | Path,
    size: int,
    images: str | Path | None = None,
    path_column: Column = "path",
    label_column: Column = "label",
    split_column: Column | None = None,
    box_columns: Sequence[Column] | None = None,
    classes: Sequence[str] | None = None,
    validation: float = 0.1,
    test: float | None = None,
    seed: int = 0,
    in_memory: bool | None = None,
    background: Canvas = "black",
    resize: Resize = "crop",
    on_error: OnError = "fail",
) -> ImageSet:
    """Image files listed in a CSV or Parquet table, one row per image.

    ``root`` is the table, whose first line names its columns. Columns are given by name, or by position from 0.
    ``images`` is the folder in which relative paths begin, by default that of the table. ``label_column`` has names or
    numbers; ``classes`` names the classes in order, by default all distinct labels. ``split_column``, by default
    ``split`` if there is such a column, has the splits under the names that ``image_folder`` reads. A split without
    rows is a fraction of the training rows, ``validation`` or ``test``. ``box_columns`` are those of x0, y0, x1, y1 in
    pixels. The other options are those of ``image_folder``.
    """
    root = Path(root)
    check_options(size=size, background=background, resize=resize, on_error=on_error)
    rows = read_table(
        root,
        images=images,
        path_column=path_column,
        label_column=label_column,
        split_column=split_column,
        box_columns=box_columns,
        classes=classes,
    )
    if on_error == "fail":
        _check_files(root, rows)
    _check_leaks(root, rows)
    index = split_rows(
        torch.tensor(rows.labels), rows.splits, split, name=str(root), validation=validation, test=test, seed=seed
    ).tolist()
    files = [rows.paths[i] for i in index]
    boxes = None
    if rows.boxes is not None:
        sizes = _sizes(files, rows.boxes[index], on_error)
        _check_inside(files, rows.boxes[index], sizes)
        boxes = fit_boxes(rows.boxes[index], sizes, size=size, resize=resize)
    return file_set(
        files,
        torch.tensor([rows.labels[i] for i in index], dtype=torch.int64),
        rows.classes,
        split=split,
        size=size,
        in_memory=in_memory,
        background=background,
        resize=resize,
        on_error=on_error,
        boxes=boxes,
    )


def _check_files(root: Path, rows: ImageTable) -> None:
    missing = [path for path in rows.paths if not path.exists()]
    if missing:
        raise InputError(
            f"{root}: {len(missing)} of {len(rows.paths)} image files do not exist: {listed(missing)}. Relative paths "
            "begin in the folder of the table: set `data.images` to another folder, correct the paths, or leave such "
            "rows out with `data.on_error=skip`."
        )


def _check_leaks(root: Path, rows: ImageTable) -> None:
    """Warn about files that are in more than one split."""
    splits: dict[Path, set[str]] = {}
    for path, split in zip(rows.paths, rows.splits or [], strict=bool(rows.splits)):
        splits.setdefault(path, set()).add(split)
    if several := [path for path, names in splits.items() if len(names) > 1]:
        warn_input(f"{root}: {len(several)} image files are in more than one split: {listed(several)}.")


def _check_inside(files: Sequence[Path], boxes: NDArray[np.float64], sizes: NDArray[np.int64]) -> None:
    outside = ((boxes[:, :2] >= sizes) | (boxes[:, 2:] <= 0)).any(1) & (sizes > 1).all(1)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        raise InputError(
            f"`box_columns`: {int(outside.sum())} boxes lie outside their images, such as {boxes[first].tolist()} of "
            f"{files[first]} with {sizes[first][0]} x {sizes[first][1]} pixels; boxes are (x0, y0, x1, y1), in pixels"
            " of the upright image."
        )


def _sizes(files: Sequence[Path], boxes: NDArray[np.float64], on_error: OnError) -> NDArray[np.int64]:
    """Return width and height of each upright image that has a box, without decoding it; 1 for the others."""
    sizes = np.ones((len(files), 2), np.int64)
    for row in np.flatnonzero(~np.isnan(boxes[:, 0])).tolist():
        try:
            with open_image(files[row]) as image:
                on_its_side = image.getexif().get(_ORIENTATION) in _ON_ITS_SIDE
                sizes[row] = image.size[::-1] if on_its_side else image.size
        except Exception as error:  # decoders raise many kinds of errors for damaged files
            if on_error == "fail":
                raise InputError(f"cannot decode {files[row]}: {error}; repair or remove it.") from error
    return sizes
