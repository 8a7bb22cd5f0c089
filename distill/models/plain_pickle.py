"""Read a file of `torch.save` that holds tensors and plain values, and name whatever else it holds.

The values beside the weights of a checkpoint are often NumPy scalars (a best accuracy) or containers. They are built by
functions of this file, which accept numbers and text only. Nothing else is built.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

_NUMBERS = "biufc"
#: Largest part of a pickle that is searched for the key of a refused value, in bytes.
_SEARCHED = 64 << 20


def load_plain(path: Path) -> Any:
    """Read a file without executing code from it.

    Raises:
        pickle.UnpicklingError: If it holds other objects than tensors, numbers, text and plain containers.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"accuracy": np.float64(0.5)}, Path(folder) / "a.pth")
        ...     load_plain(Path(folder) / "a.pth")
        {'accuracy': np.float64(0.5)}
    """
    with torch.serialization.safe_globals(_SAFE):
        return torch.load(path, map_location="cpu", weights_only=True)


def find_refused(path: Path, error: BaseException) -> tuple[str | None, str] | None:
    """Return the key and the type of the value that was refused, or None if the error is another one.

    The key is None if it cannot be found.

    Example:
        >>> import argparse, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"arguments": argparse.Namespace(lr=1)}, Path(folder) / "a.pth")
        ...     try:
        ...         load_plain(Path(folder) / "a.pth")
        ...     except pickle.UnpicklingError as error:
        ...         find_refused(Path(folder) / "a.pth", error)
        ('arguments', 'argparse.Namespace')
    """
    named = re.search(r"GLOBAL ([\w.]+) (?:was not an allowed|whose module)", str(error))
    if named is None:
        return None
    try:
        key = next((key for name, key in _globals(_pickled(path)) if name == named[1]), None)
    except (ValueError, OSError, zipfile.BadZipFile, KeyError, IndexError):
        key = None
    return key, named[1]


def _pickled(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return file.read(_SEARCHED)
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        with archive.open(name) as file:
            return file.read(_SEARCHED)


def _globals(content: bytes) -> Iterator[tuple[str, str | None]]:
    """Yield the name of each class or function in a pickle, and the text before it, which is the key in a mapping."""
    texts: list[str | None] = [None, None, None]
    memo: dict[Any, str | None] = {}
    for operation, argument, _ in pickletools.genops(content):
        if operation.name == "GLOBAL":
            yield str(argument).replace(" ", "."), texts[-1]
        elif operation.name == "STACK_GLOBAL":
            yield f"{texts[-2]}.{texts[-1]}", texts[-3]
        elif "UNICODE" in operation.name:
            texts.append(str(argument))
        elif operation.name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[argument] = texts[-1]
        elif operation.name == "MEMOIZE":
            memo[len(memo)] = texts[-1]
        elif operation.name in ("BINGET", "LONG_BINGET", "GET") and argument in memo:
            texts.append(memo[argument])


def _dtype(name: str, *_: Any) -> Any:
    dtype = np.dtype(str(name))
    if dtype.kind not in _NUMBERS + "US":
        raise pickle.UnpicklingError(f"a NumPy value of type {name!r} is not a number or a text")
    return dtype


def _scalar(dtype: Any, content: Any) -> Any:
    if not isinstance(dtype, np.dtype) or not isinstance(content, bytes) or len(content) != dtype.itemsize:
        raise pickle.UnpicklingError("a NumPy scalar is damaged")
    return np.frombuffer(content, dtype)[0]


def _mapping(*_: Any) -> dict[Any, Any]:
    """Return an empty mapping for a ``defaultdict``, whose items torch would refuse."""
    return {}


_DTYPES = [cls for cls in vars(np.dtypes).values() if isinstance(cls, type) and issubclass(cls, np.dtype)]
_SAFE: list[Any] = [
    (_dtype, "numpy.dtype"),
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    *_DTYPES,
    frozenset,
    (_mapping, "collections.defaultdict"),
    list,
    dict,
]
