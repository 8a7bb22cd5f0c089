"""Compare the names of the classes of two networks, or of a network and a data set."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from distill.errors import InputError


def class_difference(names: Sequence[str], others: Sequence[str]) -> str | None:
    """Return the first difference between two lists of class names, in the order of the logits, or None.

    Convention:
        - A network or data set without names has an empty list, or the numbers ``"0", "1", ...``. It is compared by the
          number of classes only, and an empty list is not compared.

    Args:
        names: Class names of one network or data set.
        others: Class names of the other.

    Example:
        >>> class_difference(["cat", "dog"], ["dog", "cat"])
        "class 0 is 'cat' and 'dog'"
        >>> class_difference(["cat", "dog"], ["0", "1"]), class_difference(["cat", "dog"], ["0", "1", "2"])
        (None, '2 and 3')
    """
    if not names or not others:
        return None
    if len(names) != len(others):
        return f"{len(names)} and {len(others)}"
    if _are_numbers(names) or _are_numbers(others):
        return None
    for i, (one, other) in enumerate(zip(names, others, strict=True)):
        if one != other:
            return f"class {i} is {one!r} and {other!r}"
    return None


def find_class(target: str | int, classes: Sequence[str]) -> int:
    """Return the index of a class that is given by its name or its number.

    Raises:
        InputError: if the class does not exist. The message lists the most similar names.

    Example:
        >>> find_class("dog", ["cat", "dog"]), find_class("0", ["cat", "dog"])
        (1, 0)
    """
    names = list(classes)
    if target in names:
        return names.index(str(target))
    number = int(target) if isinstance(target, int) or target.isdecimal() else -1
    if 0 <= number < len(names):
        return number
    lower = {name.lower(): name for name in reversed(names)}
    near = [lower[one] for one in difflib.get_close_matches(str(target).lower(), lower, n=3, cutoff=0.6)]
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"the classes are {', '.join(names[:10])}"
    end = "" if near else ", ..." if len(names) > 10 else "."
    raise InputError(f"unknown class {target!r}; {hint}{end} Give a name, or a number from 0 to {len(names) - 1}.")


def _are_numbers(names: Sequence[str]) -> bool:
    return all(name == str(i) for i, name in enumerate(names))
