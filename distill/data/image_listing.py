"""Folders of image files, one folder per class: list and fingerprint them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.data.folder_splits import check_class_folders, is_hidden, subfolders
from distill.data.shards import find_shards
from distill.data.table_file import TABLE_KEYS, read_table
from distill.errors import InputError, warn_input
from distill.files import expand_home
from distill.untrusted import check_regular

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
#: Endings of image files that are not read; they are counted in a warning.
OTHER_FORMATS = (
    *(".arw", ".avif", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpx"),
    *(".jxl", ".nef", ".orf", ".pbm", ".pnm", ".psd", ".raw", ".rw2", ".svg", ".tga"),
)


def list_images(folder: Path) -> tuple[tuple[str, ...], list[Path], list[int]]:
    """List the image files in the class folders of ``folder``, sorted by class and path; hidden names are skipped.

    Returns:
        The class names, the files, and the class number of each file.

    Raises:
        InputError: if the folder is missing or has no class folders, a class folder contains no image, or all class
            folders have the same sub-folders.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; expected one sub-folder of images per class.")
    folders = subfolders(folder)
    if not folders:
        raise InputError(f"{folder} has no sub-folders; expected one sub-folder of images per class.")
    check_class_folders(folder, folders)
    files: list[Path] = []
    labels: list[int] = []
    skipped: Counter[str] = Counter()
    for label, class_folder in enumerate(folders):
        entries = [path for path in class_folder.rglob("*") if not is_hidden(path.relative_to(class_folder))]
        paths = sorted(path for path in entries if path.suffix.lower() in EXTENSIONS)
        others = Counter(path.suffix.lower() for path in entries if path.suffix.lower() in OTHER_FORMATS)
        if not paths:
            found = f", only {_count(others)}" if others else ""
            raise InputError(f"{class_folder} contains no image file ({', '.join(EXTENSIONS)}){found}.")
        files += paths
        labels += [label] * len(paths)
        skipped += others
    if skipped:
        warn_input(
            f"{folder}: image files of formats that are not read are skipped ({_count(skipped)}). "
            "Convert them to PNG or JPEG; files .jfif and .jpe only need the ending .jpg."
        )
    return tuple(path.name for path in folders), files, labels


def _count(endings: Counter[str]) -> str:
    return ", ".join(f"{number} {ending}" for ending, number in sorted(endings.items()))


def file_stat(path: Path) -> os.stat_result:
    """Return the size and times of a file.

    Raises:
        InputError: if it is not a regular file, for example a link to a file that does not exist.
    """
    check_regular(path)
    return path.stat()


#: Options of ``webdataset`` that name tar files.
SHARD_KEYS = ("shards", "validation_shards", "test_shards")
#: Options of a data set that its fingerprint depends on.
FINGERPRINTED = ("root", *TABLE_KEYS, *SHARD_KEYS)


def fingerprint(name: str, options: Mapping[str, Any]) -> str | None:
    """Return a hash of the names and sizes of a data set's image files, and of the content of its table.

    Args:
        name: Name of the data set.
        options: Options of the data set; ``root`` is its folder.

    Returns:
        The hash, for ``image_folder``, ``table`` and ``webdataset`` (names and sizes of the shards). None for the other
        data sets, which are determined by their name and options, and for a folder or table that does not exist.

    Raises:
        InputError: If a table cannot be read.
    """
    root = None if options.get("root") is None else expand_home(options["root"])
    if name == "table" and root is not None and Path(root).is_file():
        return _table_fingerprint(Path(root), options)
    if name == "webdataset":
        return _shards_fingerprint(options)
    if name != "image_folder" or root is None or not Path(root).is_dir():
        return None
    files = (path for path in Path(root).rglob("*") if path.suffix.lower() in EXTENSIONS)
    shown = (path for path in files if not is_hidden(path.relative_to(root)))
    lines = sorted(f"{path.relative_to(root).as_posix()}\t{file_stat(path).st_size}" for path in shown)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _shards_fingerprint(options: Mapping[str, Any]) -> str:
    given = [(key, options[key]) for key in SHARD_KEYS if options.get(key) is not None]
    paths = [path for key, patterns in given for path in find_shards(patterns, key)]
    lines = [f"{path.name}\t{file_stat(path).st_size}" for path in paths]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _table_fingerprint(root: Path, options: Mapping[str, Any]) -> str:
    chosen = {key: options[key] for key in TABLE_KEYS if options.get(key) is not None}
    paths = read_table(root, **chosen).paths
    sizes = [str(path.stat().st_size) if path.is_file() else "missing" for path in paths]
    return hashlib.sha256(root.read_bytes() + "\n".join(sizes).encode()).hexdigest()[:16]
