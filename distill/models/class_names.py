"""Compare the names of the classes of two networks, or of a network and a data set."""

from __future__ import annotations

from collections.abc import Sequence


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


def _are_numbers(names: Sequence[str]) -> bool:
    return all(name == str(i) for i, name in enumerate(names))
