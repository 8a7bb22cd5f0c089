"""Write files atomically: a file appears whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path | str, *, suffix: str = ".part") -> Iterator[Path]:
    """Yield a temporary path beside a file; it replaces the file at the end, and is removed if an error is raised.

    Args:
        path: The file; missing folders are created.
        suffix: Appended to the file's name for the temporary one. Give each process its own where several write.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, replacing(Path(folder) / "a.txt") as part:
        ...     _ = part.write_text("whole")
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
    """Write a text file in UTF-8, atomically.

    Returns:
        The path.
    """
    path = Path(path)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path
