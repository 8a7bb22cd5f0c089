"""`Journal`: an append-only file of rows, written by several processes; one folder per key."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from distill.errors import InputError
from distill.files import replacing, storage_errors
from distill.untrusted import check_regular, read_json

_MAGIC = b"VIEW"
_HEADER = struct.Struct("<4sIII")  # magic, number of rows, floats per row, CRC-32 of the body


class Chunk(NamedTuple):
    """Rows that were written together: their keys, and the start of each row in the file, counted in floats."""

    keys: NDArray[np.int64]
    starts: NDArray[np.int64]


class Journal:
    """Append-only file of rows of float32 with integer keys.

    Convention:
        - Rows are written in chunks with a checksum, under a file lock that is released when its process ends.
        - Reading takes no lock; a chunk is read once it is complete.
        - An incomplete chunk (its writer was killed) is removed before the next chunk is written. A damaged chunk is
          skipped. Both give a warning, and their rows are misses, so they are computed and written again.
        - If the header of a chunk is unreadable, the chunks before it are copied to a new file, which replaces the old
          one; processes that have mapped the old file can continue to use it.

    Args:
        path: The file; created with the first chunk.
        width: Floats per row.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     journal = Journal(Path(folder) / "rows.bin", 2)
        ...     journal.append(np.array([7]), np.array([[1.0, 2.0]], np.float32))
        ...     (chunk,) = journal.read_new()
        ...     chunk.keys.tolist(), journal.values()[chunk.starts[0] :].tolist()
        ([7], [1.0, 2.0])
    """

    def __init__(self, path: Path, width: int) -> None:
        self.path, self.width = path, width
        self._lock = FileLock(f"{path}.lock")
        self._end, self._inode, self._unreadable = 0, -1, False

    def reset_if_replaced(self) -> bool:
        """Return whether the file that was read has been replaced or deleted; if so, the next read starts at 0."""
        inode = self.path.stat().st_ino if self.path.exists() else -1
        if inode == self._inode:
            return False
        first_read = self._inode == -1
        self._end, self._inode, self._unreadable = 0, inode, False
        return not first_read

    def has_new(self) -> bool:
        """Return whether the file has grown or been replaced since the last read; does not change the state."""
        if not self.path.exists():
            return self._inode != -1
        stat = self.path.stat()
        return stat.st_ino != self._inode or (not self._unreadable and stat.st_size > self._end)

    def read_new(self) -> Iterator[Chunk]:
        """Yield the chunks that any process has written since the last read."""
        self.reset_if_replaced()
        if not self.path.exists():
            return
        check_regular(self.path)
        with self.path.open("rb") as file:
            while True:
                file.seek(self._end)
                header = file.read(_HEADER.size)
                if len(header) < _HEADER.size:
                    return
                magic, count, width, checksum = _HEADER.unpack(header)
                if magic != _MAGIC or width != self.width:
                    self._unreadable = True
                    return
                size = count * (8 + 4 * width)
                if size > os.fstat(file.fileno()).st_size - file.tell():  # before memory is taken for it
                    return
                body = file.read(size)
                if len(body) < size:
                    return
                first = (self._end + _HEADER.size + 8 * count) // 4
                self._end += _HEADER.size + len(body)
                if zlib.crc32(body) != checksum:
                    warnings.warn(
                        f"{count} rows of {self.path} are damaged; they will be computed again.", stacklevel=2
                    )
                    continue
                keys = np.frombuffer(body, "<i8", count)
                yield Chunk(keys, first + width * np.arange(count))

    def values(self) -> NDArray[np.float32]:
        """Map the part of the file that was read into memory, as a flat array of floats."""
        return np.memmap(self.path, dtype="<f4", mode="r", shape=(self._end // 4,))

    def append(self, keys: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        """Write rows at the end of the file; :meth:`read_new` yields them like those of other processes."""
        body = keys.astype("<i8").tobytes() + np.ascontiguousarray(rows, "<f4").tobytes()
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock:
                self._repair()
                with self.path.open("ab") as file:
                    file.write(_HEADER.pack(_MAGIC, len(keys), self.width, zlib.crc32(body)) + body)

    def _repair(self) -> None:
        """Remove the bytes after the last complete chunk; call only with the lock held."""
        if not self.path.exists():
            return
        probe = Journal(self.path, self.width)
        probe._end, probe._inode = (self._end, self._inode) if not self._unreadable else (0, -1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in probe.read_new():
                pass
        incomplete = self.path.stat().st_size - probe._end
        if incomplete == 0:
            return
        warnings.warn(f"removed the last {incomplete} bytes of {self.path}, which are not complete rows.", stacklevel=3)
        if not probe._unreadable:
            os.truncate(self.path, probe._end)
            return
        with replacing(self.path) as part:
            shutil.copyfile(self.path, part)
            os.truncate(part, probe._end)


FORMAT = 1


def open_journal(root: Path, key: Mapping[str, Any], *, width: int) -> Journal:
    """Open the journal of a key; create its folder if it does not exist.

    Convention:
        - The file is in a sub-folder of ``root`` named by the hash of the key, next to ``key.json``.

    Args:
        root: Folder of the journals.
        key: Everything the rows depend on, as JSON values.
        width: Floats per row.

    Raises:
        InputError: if the folder belongs to another key, or its ``key.json`` cannot be read.
    """
    full = {"format": FORMAT, "width": width, **key}
    text = json.dumps(full, sort_keys=True, indent=1)
    folder = root / hashlib.sha256(text.encode()).hexdigest()[:16]
    path = folder / "key.json"
    try:
        if not path.exists():
            with replacing(path, suffix=f".{os.getpid()}") as part:
                part.write_text(text)
        stored = read_json(path)
        if not isinstance(stored, dict):
            raise ValueError("it must hold keys and values")
    except (OSError, ValueError) as error:
        raise InputError(
            f"teacher.cache_dir: cannot read or write {path} ({error}); delete the folder {folder}, or "
            "set another teacher.cache_dir."
        ) from error
    if stored != json.loads(text):
        differing = sorted(k for k in {*stored, *full} if stored.get(k) != json.loads(text).get(k))
        raise InputError(
            f"teacher.cache_dir: {folder} contains the outputs of another teacher or for other data "
            f"({', '.join(differing)} differ); delete the folder, or set another teacher.cache_dir."
        )
    return Journal(folder / "rows.bin", width)
