"""Records as JSON files, with a check of their format on reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from distill.checksums import read_checked, save_checked
from distill.errors import InputError
from distill.metrics.names import check_range


def save_json(content: Mapping[str, Any], path: Path | str) -> Path:
    """Write a record as JSON with its checksum, atomically.

    Returns:
        The path.
    """
    return save_checked(content, path)


def load_json(
    path: Path | str,
    adapter: TypeAdapter[Any],
    *,
    format: int,
    kind: str,
    command: str,
    figures: Callable[[Any], Iterable[tuple[str, float | None]]],
) -> Any:
    """Read a record and check it.

    Args:
        path: The file.
        adapter: Type of the record.
        format: Expected value of the field ``format``.
        kind: Name of the record for messages: ``evaluation``.
        command: The command that writes the file.
        figures: Function that returns the names and values of the metrics in a record; they must be in their range.

    Raises:
        InputError: if the file is missing or damaged, or is not a record of this format.
    """
    path = Path(path)
    if not path.exists() and not path.is_symlink():
        raise InputError(f"{path}: no such {kind}; create it with `{command}`.")
    content = read_checked(path, remedy=f"Run `{command}` again.")
    got = content.get("format")
    if got != format:
        raise InputError(f"{path}: expected an {kind} of format {format}, got format {got!r}; run `{command}` again.")
    try:
        adapter.validate_python(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {where}: {first['msg']}; run `{command}` again.") from error
    try:
        for metric, value in figures(content):
            if value is not None:
                check_range(metric, value)
    except ValueError as error:
        raise InputError(f"{path}: {error}; run `{command}` again.") from error
    return content
