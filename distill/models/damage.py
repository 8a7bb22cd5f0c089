"""Damage in files of weights: changed bytes, and values that are not finite."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from typing_extensions import Buffer

from distill.errors import InputError

#: Key of a checkpoint's checksum.
CHECKSUM = "content_sha256"


class _Digest(Protocol):
    def update(self, data: Buffer, /) -> None: ...


def add_checksum(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint with a checksum of its tensors and plain values.

    Example:
        >>> check_checkpoint(add_checksum({"step": 3, "weights": torch.zeros(2)}), "a.ckpt")
    """
    content = {key: value for key, value in checkpoint.items() if key != CHECKSUM}
    return {**content, CHECKSUM: _hash(content)}


def check_checkpoint(content: Mapping[str, Any], path: Path | str) -> None:
    """Raise an error if a checkpoint has a checksum that does not fit its content.

    Raises:
        InputError: If it was changed after it was written.
    """
    expected = content.get(CHECKSUM)
    if expected is not None and expected != _hash({key: value for key, value in content.items() if key != CHECKSUM}):
        raise InputError(
            f"{path} was changed or damaged after it was written: its content does not fit its checksum. Copy it "
            "again, or train the run again."
        )


def check_archive(path: Path, *, required: bool = False) -> None:
    """Raise an error if an entry of a zip archive, the format of `torch.save`, does not fit its own checksum.

    Convention:
        - `torch.load` does not compare the checksums. Files without checksums, and files in the format before torch
          1.6, are not checked.

    Args:
        path: The file.
        required: Whether a file that is no zip archive is refused.

    Raises:
        InputError: If an entry is damaged.
    """
    try:
        if not required and not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            if not any(entry.CRC for entry in archive.infolist()):
                return
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error, NotImplementedError, RuntimeError, ValueError) as error:
        raise InputError(f"{path} is truncated or is not a checkpoint: {error}") from error
    if damaged is not None:
        raise InputError(
            f"{path} is damaged: its entry {damaged!r} does not fit its checksum. Copy or download the file again."
        )


def check_finite(state: Mapping[str, Tensor], path: Path | str) -> None:
    """Raise an error if a tensor contains NaN or an infinite value.

    Raises:
        InputError: The message names the first such tensor.

    Example:
        >>> check_finite({"fc.bias": torch.tensor([0.0, float("nan")])}, "a.pth")
        Traceback (most recent call last):
        distill.errors.InputError: a.pth: fc.bias contains values that are not finite (1 of 2). Such a network ...
    """
    for name, tensor in state.items():
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        wrong = int((~torch.isfinite(tensor)).sum())
        if wrong:
            raise InputError(
                f"{path}: {name} contains values that are not finite ({wrong} of {tensor.numel()}). Such a network "
                "has no meaningful outputs. Use other weights, or train it again with a lower learning rate."
            )


def _hash(content: Any) -> str:
    digest = hashlib.sha256()
    _update(digest, content)
    return digest.hexdigest()


def _update(digest: _Digest, value: Any) -> None:
    """Add a nested value; of objects that are neither tensors nor plain values, only the kind is added."""
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        digest.update(f"tensor {plain.dtype} {tuple(plain.shape)} ".encode())
        if plain.layout is torch.strided and not plain.is_quantized:
            digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)} ".encode())
        for key, part in value.items():
            _update(digest, key)
            _update(digest, part)
    elif isinstance(value, list | tuple):
        digest.update(f"list {len(value)} ".encode())
        for part in value:
            _update(digest, part)
    elif value is None or isinstance(value, bool | int | float | complex | str | bytes):
        digest.update(f"{type(value).__name__} {value!r} ".encode("utf-8", "surrogatepass"))
    else:
        digest.update(b"object ")
