"""The two ways in which a command can end badly: the input was wrong (exit 2), or the run failed (exit 1)."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """What the user asked for cannot be done as asked; says what was expected, what came and what to do."""

    exit_code = 2


class RunError(RuntimeError):
    """A run that started well came to a bad end, for example a loss that is not a number."""

    exit_code = 1


def unknown_name(kind: str, got: str, known: Iterable[str], *, see: str = "") -> str:
    """Word the message for a name that does not exist, with the nearest ones that do.

    Example:
        >>> unknown_name("model", "wrn_16_z", ["wrn_16_2", "resnet18"])
        "unknown model 'wrn_16_z'; did you mean 'wrn_16_2'? (known: resnet18, wrn_16_2)"
    """
    names = sorted(known)
    close = get_close_matches(got, names, n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {got!r}{hint} (known: {', '.join(names)}{'; see ' + see if see else ''})"
