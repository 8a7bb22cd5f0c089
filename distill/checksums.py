"""Checksums of files and of JSON records, so that a changed file is noticed when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.files import write_text
from distill.untrusted import check_regular, read_json

#: Key of a record's checksum.
CHECKSUM = "checksum"
#: Length of a checksum.
_LENGTH = 64


def hash_values(values: Any) -> str:
    """Return the SHA-256 of values that JSON can store; the order of keys does not matter.

    Example:
        >>> hash_values({"a": 1, "b": [2.5]}) == hash_values({"b": [2.5], "a": 1})
        True
    """
    plain = json.loads(json.dumps(values))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def hash_file(path: Path | str) -> str:
    """Return the SHA-256 of a file.

    Raises:
        InputError: If it is not a regular file, or cannot be read.
    """
    check_regular(path)
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()


def save_checked(record: Mapping[str, Any], path: Path | str) -> Path:
    """Write a record as JSON with its checksum, atomically.

    Returns:
        The path.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_checked({"accuracy": 0.5}, Path(folder) / "a.json")
        ...     unchanged = read_checked(path, remedy="Write it again.")
        ...     _ = path.write_text(path.read_text().replace("0.5", "0.9"))
        ...     read_checked(path, remedy="Write it again.")
        Traceback (most recent call last):
        distill.errors.InputError: .../a.json was changed or damaged after it was written: ... Write it again.
    """
    sealed = {**record, CHECKSUM: hash_values(record)}
    return write_text(path, json.dumps(sealed, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_checked(path: Path | str, *, remedy: str) -> dict[str, Any]:
    """Read a JSON record, and compare it with its checksum if it has one; older records have none.

    Args:
        path: The file.
        remedy: What to do if the file is damaged, for the message.

    Returns:
        The record without its checksum.

    Raises:
        InputError: If the file cannot be read, does not hold keys and values, or does not fit its checksum.
    """
    try:
        content = read_json(path)
    except InputError as error:
        raise InputError(f"{error} {remedy}".rstrip()) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold keys and values at its top level. {remedy}".rstrip())
    expected = content.pop(CHECKSUM, None)
    last = next(reversed(content), None)
    # No other record ends with a text of this length: it is a checksum whose name was damaged.
    misnamed = expected is None and isinstance(content.get(last), str) and len(content[last]) == _LENGTH
    if misnamed or (expected is not None and expected != hash_values(content)):
        problem = "was changed or damaged after it was written: its content does not fit its checksum."
        raise InputError(f"{path} {problem} {remedy}".rstrip())
    return content
