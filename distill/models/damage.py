"""Damage in files of weights: changed bytes, and values that are not finite."""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
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
        InputError: If an entry is damaged or compressed: it could take any amount of memory.
    """
    try:
        if not required and not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > Path(path).stat().st_size:
                raise InputError(f"{path} is compressed: it claims more bytes than it has. Save it with `torch.save`.")
            if not any(entry.CRC for entry in archive.infolist()):
                return
            damaged = archive.testzip()
    except InputError:
        raise
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error, NotImplementedError, RuntimeError, ValueError) as error:
        raise InputError(f"{path} is truncated or is not a checkpoint: {error}") from error
    if damaged is not None:
        raise InputError(
            f"{path} is damaged: its entry {damaged!r} does not fit its checksum. Copy or download the file again."
        )


#: Bytes by which values may exceed what a file has, for buffers that are expanded or not saved.
_SLACK = 64 << 20


def check_sizes(content: Any, path: Path | str) -> None:
    """Raise an error if a tensor claims many more values than it has in memory: a copy would take that memory.

    Raises:
        InputError: The message names no key, since tensors can be nested.

    Example:
        >>> check_sizes({"fc.weight": torch.zeros(1).expand(10**6, 10**6)}, "a.pth")
        Traceback (most recent call last):
        distill.errors.InputError: a.pth: a tensor of the shape (1000000, 1000000) has only 1 value. Such a ...
    """
    if isinstance(content, Tensor):
        held = content.untyped_storage().nbytes() if content.layout is torch.strided else math.inf
        if content.numel() * content.element_size() > held + _SLACK:
            count = int(held // content.element_size())
            raise InputError(
                f"{path}: a tensor of the shape {tuple(content.shape)} has only {count:,} value{'s' * (count != 1)}. "
                "Such a file is not read."
            )
    elif isinstance(content, Mapping | list | tuple):
        for part in content.values() if isinstance(content, Mapping) else content:
            check_sizes(part, path)


def check_fits(network: nn.Module, state: Mapping[str, Tensor], path: Path | str) -> None:
    """Raise an error if a network is far larger than the weights that it is built for.

    Args:
        network: The network on the meta device, where it takes no memory.
        state: The weights.
        path: Their file, for the message.

    Raises:
        InputError: The message gives both numbers of values.
    """
    needed = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    held = sum(value.numel() * value.element_size() for value in state.values())
    if needed > 2 * held + _SLACK:
        raise InputError(
            f"{path}: the network in its record needs {needed / 1e6:,.0f} MB of weights, but the file has "
            f"{held / 1e6:,.0f} MB. Copy the files again, or train the run again."
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
