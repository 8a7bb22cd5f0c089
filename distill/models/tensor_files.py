"""Read safetensors files: one file, or the shards that an index (`model.safetensors.index.json`) lists."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

import psutil
import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from distill.checksums import hash_file
from distill.errors import InputError
from distill.untrusted import check_regular, read_json

#: End of the name of an index.
INDEX_SUFFIX = ".safetensors.index.json"
#: Largest size of an index in bytes, and share of the free memory that the tensors of a file may take.
_INDEX_LIMIT, _MAX_SHARE_OF_FREE = 64 << 20, 0.9


def is_index(path: Path) -> bool:
    """Return whether a file is the index of a sharded safetensors file, by its name.

    Example:
        >>> is_index(Path("model.safetensors.index.json")), is_index(Path("model.safetensors"))
        (True, False)
    """
    return path.name.endswith(INDEX_SUFFIX)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a file, or of all shards of an index.

    Raises:
        InputError: If a file is missing or damaged, does not fit the index, or is larger than the free memory. Sizes
            are compared before memory is taken.
    """
    if is_index(path):
        return _read_shards(path)
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is truncated or is not a safetensors file: {error}") from error


def check_memory(paths: Iterable[Path], source: Path) -> None:
    """Raise an error if files are larger than the free memory.

    Args:
        paths: The files.
        source: The file that the user named, for the message.

    Raises:
        InputError: If a path is no regular file, or all files together are too large.
    """
    total = 0
    for path in paths:
        check_regular(path)
        total += path.stat().st_size
    free = int(psutil.virtual_memory().available)
    if total > _MAX_SHARE_OF_FREE * free:
        raise InputError(
            f"{source} has {total / 1e9:.1f} GB of weights, but only {free / 1e9:.1f} GB of memory are free. Use a "
            "smaller network, or a machine with more memory."
        )


def files_of(path: Path) -> list[Path]:
    """Return the files that hold the tensors of a file of weights: its shards if it is an index, else itself.

    Raises:
        InputError: If it is an index that cannot be read.
    """
    return [path.parent / shard for shard in _shards(path)] if is_index(path) else [path]


def hash_weights(path: Path) -> str:
    """Return the SHA-256 of a file of weights; that of an index depends on the content of its shards.

    Raises:
        InputError: If a file is missing.
    """
    if not is_index(path):
        return hash_file(path)
    digest = hashlib.sha256(hash_file(path).encode())
    for shard in files_of(path):
        digest.update(hash_file(shard).encode())
    return digest.hexdigest()


def _shards(index: Path) -> dict[str, list[str]]:
    """Return the names of the tensors in each shard, by the name of its file, which must lie beside the index."""
    record = read_json(index, limit=_INDEX_LIMIT)
    listed = record.get("weight_map") if isinstance(record, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise InputError(f"{index} is no index of a sharded safetensors file: it has no `weight_map` with entries.")
    shards: dict[str, list[str]] = {}
    for name, shard in listed.items():
        plain = isinstance(shard, str) and shard == PurePosixPath(shard).name == PureWindowsPath(shard).name
        if not plain or shard == ".." or not shard.endswith(".safetensors"):
            raise InputError(
                f"{index}: {str(shard)[:100]!r} is not the name of a .safetensors file beside the index. Other folders "
                "are not read."
            )
        shards.setdefault(shard, []).append(name)
    return dict(sorted(shards.items()))


def _read_shards(index: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for shard, names in _shards(index).items():
        path = index.parent / shard
        try:
            with safe_open(path, framework="pt", device="cpu") as file:  # compares the header with the size of the file
                if absent := sorted(set(names) - set(file.keys())):
                    raise InputError(
                        f"{path} lacks {len(absent)} tensors that {index.name} lists, such as {absent[0][:100]}. Copy "
                        "or download the files again."
                    )
                state |= {name: file.get_tensor(name) for name in names}
        except (SafetensorError, OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} is truncated or is not a safetensors file: {error}") from error
    return state
