"""Names of Python objects in a configuration.

A network, a data set or a term that is passed from Python as an object is recorded as ``object:package.Class#hash``.
The hash is computed from the object's content (weights, images), so the content is part of the run's identity. An
object cannot be rebuilt from a file: pass it again when you load the run.
"""

from __future__ import annotations

PREFIX = "object:"


def object_name(value: object, content: str) -> str:
    """Return the recorded name of an object.

    Args:
        value: The object. Its class becomes part of the name.
        content: Hash of the object's content; the first 12 characters are used.

    Example:
        >>> object_name([1, 2], "0123456789abcdef")
        'object:builtins.list#0123456789ab'
    """
    kind = type(value)
    return f"{PREFIX}{kind.__module__}.{kind.__qualname__}#{content[:12]}"


def is_object(name: str | None) -> bool:
    """Return whether ``name`` is the recorded name of a Python object."""
    return name is not None and name.startswith(PREFIX)


def object_type(name: str) -> str:
    """Return the class in the recorded name of an object.

    Example:
        >>> object_type("object:mypackage.MyNet#0123456789ab")
        'mypackage.MyNet'
    """
    return name.removeprefix(PREFIX).partition("#")[0]


def object_hash(name: str) -> str:
    """Return the content hash in the recorded name of an object."""
    return name.partition("#")[2]
