"""Errors of the commands: invalid input (exit code 2) and failed runs (exit code 1)."""

from __future__ import annotations

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
    close_matches = get_close_matches(got, valid_names, n=1, cutoff=0.6)
    hint = f"; did you mean {close_matches[0]!r}?" if close_matches else ""
    return f"unknown {kind} {got!r}{hint} (known: {', '.join(valid_names)}{'; see ' + see if see else ''})"
