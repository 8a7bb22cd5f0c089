"""Read a table of images, CSV or Parquet: paths, labels, splits and boxes as columns of text or numbers."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.data.folder_splits import SPLIT_NAMES
from distill.errors import InputError, unknown_name
from distill.files import expand_home
from distill.untrusted import check_regular, read_text

#: Name or position of a column; positions are counted from 0.
Column = str | int
#: Keys of the data section that :func:`read_table` takes.
TABLE_KEYS = ("images", "path_column", "label_column", "split_column", "box_columns", "classes")
#: Number of rows or names that a message lists.
LISTED = 10
_PARQUET = (".parquet", ".pq")
_TEXT = (".csv", ".tsv", ".txt")
_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}


class ImageTable(NamedTuple):
    """The rows of a table of images.

    Args:
        paths: The image file of each row.
        labels: The class number of each row.
        classes: Names of the classes.
        splits: The split of each row; None if the table has no column of splits.
        boxes: One box (x0, y0, x1, y1) per row, in pixels, NaN for no box, (N, 4); None if there are no columns.
    """

    paths: list[Path]
    labels: list[int]
    classes: tuple[str, ...]
    splits: list[str] | None
    boxes: NDArray[np.float64] | None


def read_table(
    root: Path,
    *,
    images: str | Path | None = None,
    path_column: Column = "path",
    label_column: Column = "label",
    split_column: Column | None = None,
    box_columns: Sequence[Column] | None = None,
    classes: Sequence[str] | None = None,
) -> ImageTable:
    """Read a table with one image per row.

    Args:
        root: The file: CSV with a header (``.csv``; tabs in ``.tsv``), or Parquet (``.parquet``).
        images: Folder in which relative paths begin; default: the folder of the table.
        path_column: Column of the paths of the images.
        label_column: Column of the labels: names of classes, or numbers.
        split_column: Column of the splits; default: ``split``, if there is one.
        box_columns: Columns of x0, y0, x1, y1 of a box, half open, in pixels of the upright image. Empty: no box.
        classes: Names of the classes in order; a label is one of them, or its position, counted from 0. Default: the
            distinct labels of all rows, sorted by value if all are whole numbers, otherwise by name.

    Raises:
        InputError: If the file cannot be read, a column does not exist, or a path, label, split or box is missing or
            wrong. The message has the first ten rows, counted from 1 below the header.
    """
    columns = _read(root)
    rows = len(next(iter(columns.values()), []))
    if not rows:
        raise InputError(f"{root} has no rows below its header; add one row per image.")
    read = {
        "path_column": _column(columns, path_column, "path_column", root),
        "label_column": _column(columns, label_column, "label_column", root),
    }
    for key, cells in read.items():
        _refuse(root, [not cell for cell in cells], f"an empty cell in the column of `{key}`", "fill it in")
    numbers, names = class_numbers(root, read["label_column"], classes)
    folder = root.parent if images is None else Path(expand_home(images))
    if split_column is None:
        split_column = "split" if "split" in columns else None
    return ImageTable(
        [folder / cell for cell in read["path_column"]],
        numbers,
        names,
        None if split_column is None else _splits(root, _column(columns, split_column, "split_column", root)),
        None if box_columns is None else _boxes(root, columns, box_columns),
    )


def _read(path: Path) -> dict[str, list[str]]:
    """Return the columns of a file as text; an empty cell is an empty text."""
    ending = path.suffix.lower()
    if ending not in (*_PARQUET, *_TEXT):
        raise InputError(
            f"`root`: expected a table ({', '.join((*_TEXT, *_PARQUET))}), got {path}. For a folder of images, set "
            "`data.name` to image_folder."
        )
    check_regular(path)
    return _read_parquet(path) if ending in _PARQUET else _read_text(path, tabs=ending == ".tsv")


def _read_parquet(path: Path) -> dict[str, list[str]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a valid Parquet file: {error}") from error
    return {str(name): [_text(cell) for cell in table[name].to_pylist()] for name in table.column_names}


def _text(cell: Any) -> str:
    if cell is None or cell != cell:  # NaN
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def _read_text(path: Path, *, tabs: bool) -> dict[str, list[str]]:
    text = read_text(path).removeprefix("\ufeff")
    first = text.partition("\n")[0]
    delimiter = "\t" if tabs else max(",;\t", key=first.count)
    try:
        header, *lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if line] or [
            []
        ]
    except csv.Error as error:
        raise InputError(f"{path} is not a valid CSV file: {error}.") from error
    names = [name.strip() for name in header]
    if double := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{path} has more than one column {double[0]!r}; rename one of them.")
    _refuse(
        path,
        [len(line) != len(names) for line in lines],
        f"another number of cells than the header, {len(names)}",
        "correct it, or quote cells that contain the separator",
    )
    return {name: [line[i].strip() for line in lines] for i, name in enumerate(names)}


def _column(columns: dict[str, list[str]], column: Column, key: str, path: Path) -> list[str]:
    if isinstance(column, int) and not isinstance(column, bool):
        if not 0 <= column < len(columns):
            raise InputError(f"`{key}`: {path} has {len(columns)} columns, counted from 0; got {column}.")
        return list(columns.values())[column]
    if column not in columns:
        raise InputError(f"`{key}`: {path}: {unknown_name('column', str(column), columns)}.")
    return columns[column]


def class_numbers(
    path: Path, labels: Sequence[str], classes: Sequence[str] | None
) -> tuple[list[int], tuple[str, ...]]:
    """Return the class number of each label, and the names of the classes.

    Args:
        path: Where the labels are from, for messages.
        labels: Names of classes, or numbers as text.
        classes: Names of the classes in order; None for the distinct labels, sorted by value if all are whole numbers.

    Raises:
        InputError: If a label is not one of the classes.

    Example:
        >>> class_numbers(Path("a.csv"), ["10", "9"], None)
        ([1, 0], ('9', '10'))
    """
    if classes is None:
        numeric = all(map(_is_number, labels))
        names = tuple(sorted(set(labels), key=(lambda name: (int(name), name)) if numeric else None))
        position = {name: i for i, name in enumerate(names)}
        return [position[label] for label in labels], names
    if isinstance(classes, str) or not isinstance(classes, Sequence) or len(set(classes)) != len(classes):
        raise InputError(f"`classes`: expected a list of different names, got {classes!r}.")
    names = tuple(map(str, classes))
    position = {name: i for i, name in enumerate(names)}
    if not set(labels) <= set(names) and all(map(_is_number, labels)):
        wrong = [not 0 <= int(label) < len(names) for label in labels]
        _refuse(
            path,
            wrong,
            f"a label outside of 0 to {len(names) - 1}, the numbers of the {len(names)} `classes`",
            "correct it, or complete `classes`",
            labels,
        )
        return [int(label) for label in labels], names
    for label in labels:
        if label not in position:
            raise InputError(f"`classes`: {path}: {unknown_name('label', label, names)}.")
    return [position[label] for label in labels], names


def _is_number(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdigit()


def _splits(path: Path, cells: Sequence[str]) -> list[str]:
    unknown = Counter(cell for cell in cells if cell.lower() not in _SPLIT_OF)
    if unknown:
        shown = ", ".join(f"{value!r} ({count} rows)" for value, count in unknown.most_common(LISTED))
        raise InputError(
            f"`split_column`: {path} has unknown splits: {shown}{', ...' if len(unknown) > LISTED else ''}. Expected "
            f"one of {', '.join(_SPLIT_OF)} in every row."
        )
    return [_SPLIT_OF[cell.lower()] for cell in cells]


def _boxes(path: Path, columns: dict[str, list[str]], names: Sequence[Column]) -> NDArray[np.float64]:
    if isinstance(names, str) or not isinstance(names, Sequence) or len(names) != 4:
        raise InputError(f"`box_columns`: expected four columns, those of x0, y0, x1 and y1, got {names!r}.")
    cells = [_column(columns, name, "box_columns", path) for name in names]
    boxes = np.full((len(cells[0]), 4), np.nan)
    for j, column in enumerate(cells):
        values = [_number(cell) for cell in column]
        _refuse(
            path,
            [value is None for value in values],
            f"no number in the column {names[j]!r} of a box",
            "give a finite number of pixels, or nothing",
            column,
        )
        boxes[:, j] = [np.nan if value is None else value for value in values]
    empty = np.isnan(boxes)
    _refuse(
        path, (empty.any(1) & ~empty.all(1)).tolist(), "a box with an empty cell", "fill in all four cells, or none"
    )
    flat = (boxes[:, 0] >= boxes[:, 2]) | (boxes[:, 1] >= boxes[:, 3])
    _refuse(
        path,
        flat.tolist(),
        "a box with x0 >= x1 or y0 >= y1",
        "boxes are (x0, y0, x1, y1), not width and height",
        [box.tolist() for box in boxes],
    )
    if not empty.all() and np.nanmax(boxes) <= 1:
        raise InputError(
            f"`box_columns`: all boxes of {path} are between 0 and 1; expected pixels. Multiply by the size."
        )
    return boxes


def _number(cell: str) -> float | None:
    if not cell:
        return float("nan")
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _refuse(path: Path, wrong: Sequence[bool], what: str, remedy: str, values: Sequence[Any] | None = None) -> None:
    """Raise an error that lists the first rows that are wrong."""
    rows = [row for row, is_wrong in enumerate(wrong) if is_wrong]
    if rows:
        names = [str(row + 1) if values is None else f"{row + 1} ({values[row]})" for row in rows[:LISTED]]
        shown = ", ".join(names) + (f" and {len(rows) - LISTED} more" if len(rows) > LISTED else "")
        raise InputError(f"{path}: {len(rows)} of {len(wrong)} rows have {what}: row {shown}; {remedy}.")
