"""Names that a configuration gives to Python objects, which it cannot describe.

A network, a data set or a term that is passed from Python as an object is recorded as ``object:package.Class#hash``.
The hash is of its content (weights, images), so that it is part of a run's identity. An object cannot be rebuilt
from a file: pass it again when the run is loaded.
"""

from __future__ import annotations

PREFIX = "object:"


def object_name(value: object, content: str) -> str:
    """Return the name of an object.

    Args:
        value: The object; its class is part of the name.
        content: Hash of its content.

    Example:
        >>> object_name([1, 2], "0123456789abcdef")
        'object:builtins.list#0123456789ab'
    """
    kind = type(value)
    return f"{PREFIX}{kind.__module__}.{kind.__qualname__}#{content[:12]}"


def is_object(name: str | None) -> bool:
    """Return whether a name is that of a Python object."""
    return name is not None and name.startswith(PREFIX)


def object_type(name: str) -> str:
    """Return the class of the object that a name is of.

    Example:
        >>> object_type("object:mypackage.MyNet#0123456789ab")
        'mypackage.MyNet'
    """
    return name.removeprefix(PREFIX).partition("#")[0]


def object_hash(name: str) -> str:
    """Return the hash of the content of the object that a name is of."""
    return name.partition("#")[2]
