"""Reading IDX, the format of MNIST and its successors, gzipped or not."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.errors import InputError

_GZIP = b"\x1f\x8b"
_UINT8 = 0x08


def read_idx(path: str | Path) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes.

    Convention:
        - Whether a file is gzipped is read from its first bytes, not from its name.
        - The header is two zero bytes, the element type (8), the number of axes, and each axis as a big-endian uint32.

    Args:
        path: The file.

    Returns:
        An array with the axes that the header names, which may be written to.

    Raises:
        InputError: if the file is missing, is not IDX of unsigned bytes, or is not as long as its header says.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if raw.startswith(_GZIP) else raw
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}; copy or download the file again.") from error
    if len(content) < 4 or content[:3] != bytes([0, 0, _UINT8]):
        raise InputError(
            f"{path} is not an IDX file of unsigned bytes: expected it to begin with 00 00 08, "
            f"got {content[:3].hex(' ') or 'an empty file'}."
        )
    header = 4 + 4 * content[3]
    shape = tuple(int(axis) for axis in np.frombuffer(content[4:header], ">u4", len(content[4:header]) // 4))
    expected = header + math.prod(shape)
    if len(shape) < content[3] or len(content) != expected:
        raise InputError(
            f"{path} is truncated or overlong: its header announces {expected} bytes, it has {len(content)}; "
            "copy or download the file again."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()


def find_idx(folder: Path, name: str) -> Path | None:
    """Find ``name`` or ``name.gz`` in a folder.

    Example:
        >>> find_idx(Path("/nowhere"), "train-images-idx3-ubyte") is None
        True
    """
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_pair(folder: Path, stem: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read the images and the labels of one split, as MNIST names them.

    Args:
        folder: Where ``STEM-images-idx3-ubyte`` and ``STEM-labels-idx1-ubyte`` lie, gzipped or not.
        stem: ``"train"`` or ``"t10k"``.

    Returns:
        Images (N, H, W) and labels (N,).

    Raises:
        InputError: if one of them is missing or damaged, or if they do not belong together.
    """
    parts = []
    for name, axes in ((f"{stem}-images-idx3-ubyte", 3), (f"{stem}-labels-idx1-ubyte", 1)):
        path = find_idx(folder, name)
        if path is None:
            raise InputError(f"no {name} or {name}.gz in {folder}; name the folder that holds the IDX files.")
        part = read_idx(path)
        if part.ndim != axes:
            raise InputError(f"{path} must have {axes} axes, its header names {part.ndim}.")
        parts.append(part)
    images, labels = parts
    if len(images) != len(labels):
        raise InputError(f"{folder} holds {len(images)} images but {len(labels)} labels for {stem!r}.")
    return images, labels
