"""Read IDX files, the format of MNIST and Fashion-MNIST, gzipped or not."""

from __future__ import annotations

import gzip
import math
import zlib
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.errors import InputError
from distill.untrusted import check_regular

_GZIP = b"\x1f\x8b"
_UINT8 = 0x08
#: Largest factor by which deflate, the method of gzip, compresses.
_MAX_RATIO = 1032
#: Largest number of axes; MNIST's files have at most 3.
_MAX_AXES = 32


def read_idx(path: str | Path) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes.

    Convention:
        - Gzip is detected from the first bytes of the file, not from its name.
        - The header is two zero bytes, the element type (8), the number of axes, and the length of each axis as a
          big-endian uint32.

    Args:
        path: The IDX file.

    Returns:
        A writable array with the shape given in the header.

    Raises:
        InputError: if the file cannot be read, is not IDX of unsigned bytes, or its length does not match its header.
            No more is decompressed than the header requires.
    """
    path = Path(path)
    check_regular(path)
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == _GZIP
            file.seek(0)
            stream: BufferedIOBase = gzip.GzipFile(fileobj=file) if zipped else file
            shape = _read_shape(stream, path)
            expected = math.prod(shape)
            header = 4 + 4 * len(shape)
            size = path.stat().st_size
            if not zipped and header + expected != size:
                raise _wrong_length(path, header + expected, f"it has {size}")
            if expected > _MAX_RATIO * size:
                raise _wrong_length(path, header + expected, f"more than {size} compressed bytes can hold")
            content = stream.read(expected)
            more = len(stream.read(1))
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}; copy or download the file again.") from error
    if len(content) != expected or more:
        raise _wrong_length(path, header + expected, "it has more" if more else f"it has {header + len(content)}")
    return np.frombuffer(content, np.uint8).reshape(shape).copy()


def _read_shape(stream: BufferedIOBase, path: Path) -> tuple[int, ...]:
    start = stream.read(4)
    if len(start) < 4 or start[:3] != bytes([0, 0, _UINT8]):
        raise InputError(
            f"{path} is not an IDX file of unsigned bytes: expected the first bytes 00 00 08, "
            f"got {start[:3].hex(' ') or 'an empty file'}."
        )
    axes = start[3]
    lengths = stream.read(4 * axes)
    if len(lengths) < 4 * axes or axes > _MAX_AXES:
        raise _wrong_length(path, 4 + 4 * axes, f"it has {4 + len(lengths)}")
    return tuple(int(axis) for axis in np.frombuffer(lengths, ">u4"))


def _wrong_length(path: Path, expected: int, got: str) -> InputError:
    return InputError(
        f"{path} has the wrong length: its header requires {expected} bytes, {got}; copy or download the file again."
    )


def find_idx(folder: Path, name: str) -> Path | None:
    """Return the path of ``name`` or ``name.gz`` in a folder, or None if neither exists.

    Example:
        >>> find_idx(Path("/nowhere"), "train-images-idx3-ubyte") is None
        True
    """
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.exists()), None)


def read_pair(folder: Path, stem: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read the images and labels of one split in MNIST's file layout.

    Args:
        folder: Contains ``STEM-images-idx3-ubyte`` and ``STEM-labels-idx1-ubyte``, gzipped or not.
        stem: ``"train"`` or ``"t10k"``.

    Returns:
        Images (N, H, W) and labels (N,).

    Raises:
        InputError: if a file is missing or damaged, or the numbers of images and labels differ.
    """
    parts = []
    for name, axes in ((f"{stem}-images-idx3-ubyte", 3), (f"{stem}-labels-idx1-ubyte", 1)):
        path = find_idx(folder, name)
        if path is None:
            raise InputError(f"no file {name} or {name}.gz in {folder}; give the folder that contains the IDX files.")
        part = read_idx(path)
        if part.ndim != axes:
            raise InputError(f"{path}: expected {axes} axes, got {part.ndim}.")
        parts.append(part)
    images, labels = parts
    if len(images) != len(labels):
        raise InputError(f"{folder} contains {len(images)} images but {len(labels)} labels for {stem!r}.")
    return images, labels
