"""Records as JSON files, with a check of their format on reading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from distill.errors import InputError
from distill.files import write_text


def save_json(content: Mapping[str, Any], path: Path | str) -> Path:
    """Write a record as JSON, atomically.

    Returns:
        The path.
    """
    return write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def load_json(path: Path | str, adapter: TypeAdapter[Any], *, format: int, kind: str, command: str) -> Any:
    """Read a record and check it.

    Args:
        path: The file.
        adapter: Type of the record.
        format: Expected value of the field ``format``.
        kind: Name of the record for messages: ``evaluation``.
        command: The command that writes the file.

    Raises:
        InputError: if the file is missing, is not valid JSON, or is not a record of this format.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such {kind}; create it with `{command}`.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    got = content.get("format") if isinstance(content, dict) else None
    if got != format:
        raise InputError(f"{path}: expected an {kind} of format {format}, got format {got!r}; run `{command}` again.")
    try:
        adapter.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {where}: {first['msg']}; run `{command}` again.") from error
    return content
