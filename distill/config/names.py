"""Names of runs, ablations and rows, which become names of folders."""

from __future__ import annotations

from pathlib import PurePath

from distill.untrusted import printable

#: Largest number of characters of a name that a user writes.
MAX_LENGTH = 100


def check_name(name: str, *, limit: int | None = MAX_LENGTH) -> str:
    r"""Return a name if it stays inside the folder in which it becomes a folder; sub-folders are allowed.

    Args:
        name: The name.
        limit: Largest number of characters; None for names that were recorded, which may be longer.

    Raises:
        ValueError: If it is an absolute path, contains ``..`` as a part, a control character or a line break, or is
            too long.

    Example:
        >>> check_name("group/run 1")
        'group/run 1'
        >>> check_name("../run")
        Traceback (most recent call last):
        ValueError: expected a name that stays in its folder, without `..` as a part of the path
    """
    if limit is not None and len(name) > limit:
        raise ValueError(f"expected a name of at most {limit} characters; this one has {len(name)}")
    if has_control_characters(name):
        raise ValueError("expected a name without control characters and line breaks")
    if PurePath(name).is_absolute():
        raise ValueError("expected a name, not an absolute path; output_dir sets the folder")
    if ".." in PurePath(name).parts:
        raise ValueError("expected a name that stays in its folder, without `..` as a part of the path")
    return name


def has_control_characters(name: str) -> bool:
    r"""Return whether a name contains a control character or a line break.

    Example:
        >>> has_control_characters("a\x1b[31m"), has_control_characters("a\nb"), has_control_characters("a b")
        (True, True, False)
    """
    return printable(name) != name or "\n" in name or "\t" in name
