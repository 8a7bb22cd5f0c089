"""Errors of the commands: invalid input (exit code 2) and failed runs (exit code 1)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """A configuration, file or argument is invalid.

    The message names it, and says what was expected, what was received and what to do.
    """

    exit_code = 2


class RunError(RuntimeError):
    """A run with valid input failed, for example because the loss is not a number."""

    exit_code = 1


class StorageError(RunError):
    """The file system refused to read or write a file: full disk, missing permission, removed folder."""


class InputWarning(UserWarning):
    """The input can be used, but the result may not be what the user expects."""


class InputNote(InputWarning):
    """What was done with the input, such as a conversion; the result is what the user expects."""


def warn_input(message: str) -> None:
    """Warn about input that can be used; commands print the same message once.

    Args:
        message: Names the file or argument, and says what is done with it and what the user can do.

    Example:
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_input("photos: 2 files are skipped")
        >>> str(caught[0].message)
        'photos: 2 files are skipped'
    """
    warnings.warn(message, InputWarning, stacklevel=2)


def note_input(message: str) -> None:
    """Say what was done with the input; commands print the same message once.

    Args:
        message: Names the file or argument, and says what was done with it.
    """
    warnings.warn(message, InputNote, stacklevel=2)


def unknown_name(kind: str, got: str, valid_names: Iterable[str], *, see: str = "") -> str:
    """Return the error message for an unknown name, with the closest and all valid names.

    Args:
        kind: What the name stands for, such as "model".
        got: The unknown name.
        valid_names: All valid names.
        see: Where the valid names are documented; left out of the message if empty.

    Example:
        >>> unknown_name("model", "wrn_16_z", ["wrn_16_2", "resnet18"])
        "unknown model 'wrn_16_z'; did you mean 'wrn_16_2'? (known: resnet18, wrn_16_2)"
    """
    valid_names = sorted(valid_names)
    close = closest(got, valid_names)
    hint = f"; did you mean {close!r}?" if close else ""
    known = [f"known: {', '.join(valid_names)}" if valid_names else "none is known", *([f"see {see}"] if see else [])]
    return f"unknown {kind} {got!r}{hint} ({'; '.join(known)})"


def closest(got: str, valid_names: Iterable[str]) -> str | None:
    """Return the valid name that is probably meant, or None.

    A name with another first letter must be more similar, so that ``layer_decay`` is not taken for ``weight_decay``.

    Example:
        >>> closest("momentun", ["momentum", "name"]), closest("layer_decay", ["weight_decay"])
        ('momentum', None)
    """
    names = list(valid_names)
    same_start = [name for name in names if name[:1].lower() == got[:1].lower()]
    close = get_close_matches(got, same_start, n=1, cutoff=0.65) or get_close_matches(got, names, n=1, cutoff=0.8)
    return close[0] if close else None


def without_addresses(text: str) -> str:
    """Remove addresses in memory from a message of a library.

    Example:
        >>> without_addresses("logger=<Files object at 0x7f3a2c1b> and <built-in method conv2d of type object at 0x7f>")
        'logger=<Files object> and <built-in method conv2d>'
    """
    return re.sub(r"( of type object)? at 0x[0-9a-fA-F]+", "", text)
