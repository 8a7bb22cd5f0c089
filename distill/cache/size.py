"""How large a cache will be, told before it is filled."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import psutil

from distill.errors import InputError

#: Of what is free, the share that a cache may take.
SHARE = 0.9


class Need(NamedTuple):
    """Rows that a run will meet, their bytes, how many are known already, and where they lie."""

    rows: int
    bytes: int
    known: int = 0
    folder: Path | None = None

    def __str__(self) -> str:
        where = f"in {self.folder}" if self.folder else "in memory"
        return f"{self.rows:,} views, {human(self.bytes)} {where}; {self.known:,} views known already"


def human(size: float) -> str:
    """Write bytes for people.

    Example:
        >>> human(3_500_000)
        '3.5 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def need(rows: int, *, images: int, width: int, there: int, folder: Path | None) -> Need:
    """Say how much a cache needs, if there is room for it.

    Args:
        rows: Views that will be met.
        images: Size of the set.
        width: Floats a row.
        there: Rows that are known already.
        folder: Where the file lies; None for memory.

    Raises:
        InputError: if there is not enough disk or memory.
    """
    each = 4 * width + 8
    total = Need(rows, rows * each, there, folder)
    free = _free(folder)
    missing = max(rows - there, 0) * each
    if missing > SHARE * free:
        where = f"on the disk of {folder}" if folder else "in memory"
        fit = int(SHARE * free) // (images * each)
        advice = f"data.augment.views={fit} would fit" if fit else "not even one view of each image would fit"
        raise InputError(
            f"teacher.cache: {rows:,} views, {human(total.bytes)}, are needed {where}, and {human(free)} are free; "
            f"{advice}. Choose that, another teacher.cache_dir, or teacher.cache=off."
        )
    return total


def _free(folder: Path | None) -> int:
    if folder is None:
        return int(psutil.virtual_memory().available)
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
