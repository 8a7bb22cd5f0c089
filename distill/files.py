"""Atomic file writes: a file is either complete or absent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path | str, *, suffix: str = ".part") -> Iterator[Path]:
    """Yield a temporary path; on success it replaces ``path``, on an error it is removed.

    Args:
        path: The file to write; missing folders are created.
        suffix: Appended to the file name to make the temporary name. Processes that write the same file need different
            suffixes.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, replacing(Path(folder) / "a.txt") as part:
        ...     _ = part.write_text("text")
        ...     part.name
        'a.txt.part'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + suffix)
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path: Path | str, text: str) -> Path:
    """Write a UTF-8 text file atomically.

    Returns:
        The path.
    """
    path = Path(path)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path
