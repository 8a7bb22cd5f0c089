"""What tells one folder of images from another, wherever it lies."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.data.folders import EXTENSIONS


def fingerprint(name: str, options: Mapping[str, Any]) -> str | None:
    """Hash names and sizes of the files that a data set is made of.

    Args:
        name: Of the data set.
        options: Its options; the folder is ``root``.

    Returns:
        None for a data set that name and options decide, wherever its files lie, and for a folder that is not there.
    """
    root = options.get("root")
    if name != "image_folder" or root is None or not Path(root).is_dir():
        return None
    files = (path for path in Path(root).rglob("*") if path.suffix.lower() in EXTENSIONS)
    lines = sorted(f"{path.relative_to(root).as_posix()}\t{path.stat().st_size}" for path in files)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]
