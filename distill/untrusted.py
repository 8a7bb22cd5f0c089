"""Read files that somebody else may have written: no code is executed, and sizes are limited."""

from __future__ import annotations

import json
import math
import re
import stat
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.errors import InputError

#: Largest size of a JSON or YAML file, in bytes.
TEXT_LIMIT = 256 << 20
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
#: Beginnings of names that stand for no code of their own: their options say which code is executed.
_CODE_BY_OPTIONS = ("torch.hub:",)
#: Half of a character beyond the first 65,536, as JSON may write it; alone, it is no text.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class Trust:
    """Which names ``package.module:attribute`` from a file may be imported.

    A name that the user wrote (in a configuration file, on the command line, in Python) may be imported. A name that
    came with weights or in a run directory may be imported only if the user wrote the same name, or trusts the files.

    Args:
        names: Names that the user wrote.
        everything: Whether all files are trusted (``--trust``).

    Example:
        >>> Trust(names=frozenset({"mynets:tiny"})).check("mynets:tiny", "runs/a/student.json", "--network mynets:tiny")
        >>> Trust().check("evil:run", "runs/a/student.json", "`--network evil:run`")
        Traceback (most recent call last):
        distill.errors.InputError: runs/a/student.json asks to import 'evil:run', which executes code. If you know ...
    """

    names: frozenset[str] = frozenset()
    everything: bool = False

    @classmethod
    def in_names(cls, names: Iterable[str | None], *, everything: bool = False) -> Trust:
        """Return the trust in some names; ``None`` and names that need no import are ignored."""
        return cls(frozenset(name for name in names if name and ":" in name), everything)

    def adding(self, names: Iterable[str | None]) -> Trust:
        """Return this trust with further names."""
        return Trust(self.names | Trust.in_names(names).names, self.everything)

    def check(self, name: str, source: Path | str, remedy: str) -> None:
        """Raise an error if a name from a file may not be imported.

        Args:
            name: The name in the file.
            source: The file.
            remedy: How the user can name it, for the message.

        Raises:
            InputError: If the user neither wrote the name nor trusts the file.
        """
        if self.everything:
            return
        if name.startswith(_CODE_BY_OPTIONS):
            raise InputError(
                f"{source} asks to import {name!r}, which executes code that the options in the file choose. If you "
                "know this code, trust the file with `--trust` (in Python: `trust=True`)."
            )
        if name not in self.names:
            raise InputError(
                f"{source} asks to import {name!r}, which executes code. If you know this code, name it with "
                f"{remedy}, or trust the file with `--trust` (in Python: `trust=True`)."
            )


def check_regular(path: Path | str) -> None:
    """Raise an error unless a path is a regular file: reading a pipe or a device could wait forever.

    Raises:
        InputError: If it does not exist, is a link to nothing, a folder, a pipe, a socket or a device.

    Example:
        >>> check_regular("/dev/null")
        Traceback (most recent call last):
        distill.errors.InputError: /dev/null is a device, not a regular file.
    """
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError as error:
        link = Path(path)
        target = f" It is a link to {link.readlink()}, which does not exist." if link.is_symlink() else ""
        raise InputError(f"no file {path}.{target}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (lambda value: stat.S_ISCHR(value) or stat.S_ISBLK(value), "a device"),
    )
    for test, kind in kinds:
        if test(mode):
            raise InputError(f"{path} is {kind}, not a regular file.")


def read_text(path: Path | str, *, limit: int = TEXT_LIMIT) -> str:
    """Read a UTF-8 text file.

    Args:
        path: The file.
        limit: Largest accepted size in bytes.

    Raises:
        InputError: If it is not a regular file, is larger than ``limit``, or is not UTF-8.
    """
    check_regular(path)
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = bytearray()
            while len(content) <= limit and (block := file.read(1 << 16)):  # read(limit) would take all that memory
                content += block
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > limit:
        raise InputError(f"{path} is larger than {limit >> 20} MiB, the limit for a file of this kind.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file: byte {error.start} is not UTF-8.") from error


def read_json(path: Path | str, *, limit: int = TEXT_LIMIT) -> Any:
    """Read a JSON file; NaN and infinite numbers are refused, as JSON does not have them.

    Args:
        path: The file.
        limit: Largest accepted size in bytes.

    Raises:
        InputError: If it cannot be read, is not JSON, or is nested too deeply.
    """
    text = read_text(path, limit=limit)

    def refuse(constant: str) -> Any:
        raise ValueError(f"it contains {constant}, which JSON does not have")

    def finite(number: str) -> float:
        value = float(number)
        if math.isinf(value):
            raise ValueError(f"{number[:20]} is too large a number")
        return value

    try:
        content = json.loads(text, parse_constant=refuse, parse_float=finite)
        if _SURROGATE.search(text):
            json.dumps(content, ensure_ascii=False).encode()
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply.") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}.") from error
    return content


def printable(text: str) -> str:
    r"""Escape control characters, so that text from a file cannot control a terminal; newlines and tabs stay.

    Escaped are the control characters of ASCII and Latin-1, line separators, characters that change the direction of
    text, and surrogates, which no encoding can write.

    Example:
        >>> printable("a\x1b]0;title\x07b")
        'a\\x1b]0;title\\x07b'
    """
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), text)


_format_warning = warnings.formatwarning


def escape_warnings() -> None:
    """Let Python print warnings with control characters escaped: they may quote names of files and classes."""
    warnings.formatwarning = lambda *arguments, **line: printable(_format_warning(*arguments, **line))
