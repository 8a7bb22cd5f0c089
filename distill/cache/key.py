"""Whose rows a file holds: written beside it, and compared before it is read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.cache.journal import Journal
from distill.errors import InputError

FORMAT = 1


def open_journal(root: Path, key: Mapping[str, Any], *, width: int) -> Journal:
    """Open, or begin, the file of what a key says.

    Convention:
        - The file lies in ``root``, in a folder named by the hash of the key, beside ``key.json``.

    Args:
        root: Folder of many such files.
        key: All that the rows depend on; plain values.
        width: Floats a row.

    Raises:
        InputError: if the folder holds the rows of another key, or its key cannot be read.
    """
    full = {"format": FORMAT, "width": width, **key}
    text = json.dumps(full, sort_keys=True, indent=1)
    folder = root / hashlib.sha256(text.encode()).hexdigest()[:16]
    path = folder / "key.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            part = folder / f"key.json.{os.getpid()}"
            part.write_text(text)
            part.replace(path)
        there = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"teacher.cache_dir: {path} cannot be used ({error}); delete the folder {folder}, or "
            "name another teacher.cache_dir."
        ) from error
    if there != json.loads(text):
        differing = sorted(k for k in {*there, *full} if there.get(k) != json.loads(text).get(k))
        raise InputError(
            f"teacher.cache_dir: {folder} holds what another teacher or other data gave "
            f"({', '.join(differing)} differ); delete that folder, or name another teacher.cache_dir."
        )
    return Journal(folder / "rows.bin", width)
