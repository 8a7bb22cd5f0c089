"""An append-only file of rows that several processes can write to, and the key that says what it holds."""

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

_MAGIC = b"VIEW"
_HEADER = struct.Struct("<4sIII")  # magic, rows, floats a row, checksum of what follows


class Chunk(NamedTuple):
    """Rows that were written together: their keys, and where in the file each begins, counted in floats."""

    keys: NDArray[np.int64]
    starts: NDArray[np.int64]


class Journal:
    """Rows of float32 under whole numbers, in one file.

    Convention:
        - Rows are written in chunks with a checksum, under a lock of the file system that dies with its process.
        - Reading takes no lock: a chunk counts once it is there as a whole.
        - A chunk cut short (its writer was killed) is dropped before the next is written; one that is damaged is left
          out. Either is said once, and its rows are missing: who needs them writes them again.
        - Where not even the length of a chunk can be read, what lies before it moves to a new file in its place;
          processes that look at the old one keep it as long as they need it.

    Args:
        path: The file; made with its first chunk.
        width: Floats a row.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     journal = Journal(Path(folder) / "rows.bin", 2)
        ...     journal.append(np.array([7]), np.array([[1.0, 2.0]], np.float32))
        ...     (chunk,) = journal.unread()
        ...     chunk.keys.tolist(), journal.values()[chunk.starts[0] :].tolist()
        ([7], [1.0, 2.0])
    """

    def __init__(self, path: Path, width: int) -> None:
        self.path, self.width = path, width
        self._lock = FileLock(f"{path}.lock")
        self._end, self._inode, self._unreadable = 0, -1, False

    def replaced(self) -> bool:
        """Tell whether another file took the place of the one that was read; then it is read from its start."""
        there = self.path.stat().st_ino if self.path.exists() else -1
        if there == self._inode:
            return False
        fresh = self._inode == -1
        self._end, self._inode, self._unreadable = 0, there, False
        return not fresh

    def changed(self) -> bool:
        """Tell whether there is more than was read, or another file; nothing is read or forgotten by asking."""
        if not self.path.exists():
            return self._inode != -1
        there = self.path.stat()
        return there.st_ino != self._inode or (not self._unreadable and there.st_size > self._end)

    def unread(self) -> Iterator[Chunk]:
        """Give the chunks that were written since the last time, by whatever process."""
        self.replaced()
        if not self.path.exists():
            return
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
                body = file.read(count * (8 + 4 * width))
                if len(body) < count * (8 + 4 * width):
                    return
                first = (self._end + _HEADER.size + 8 * count) // 4
                self._end += _HEADER.size + len(body)
                if zlib.crc32(body) != checksum:
                    warnings.warn(f"{count} rows of {self.path} are damaged; they are computed again.", stacklevel=2)
                    continue
                keys = np.frombuffer(body, "<i8", count)
                yield Chunk(keys, first + width * np.arange(count))

    def values(self) -> NDArray[np.float32]:
        """Map what was read into memory, as one long row of floats."""
        return np.memmap(self.path, dtype="<f4", mode="r", shape=(self._end // 4,))

    def append(self, keys: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        """Write rows after all that is there; they are read by :meth:`unread` like anybody's."""
        body = keys.astype("<i8").tobytes() + np.ascontiguousarray(rows, "<f4").tobytes()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._mend()
            with self.path.open("ab") as file:
                file.write(_HEADER.pack(_MAGIC, len(keys), self.width, zlib.crc32(body)) + body)

    def _mend(self) -> None:
        """Drop what stands after the last whole chunk; the lock says that nobody is writing it."""
        if not self.path.exists():
            return
        probe = Journal(self.path, self.width)
        probe._end, probe._inode = (self._end, self._inode) if not self._unreadable else (0, -1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in probe.unread():
                pass
        spare = self.path.stat().st_size - probe._end
        if spare == 0:
            return
        warnings.warn(f"the last {spare} bytes of {self.path} are no whole rows and were dropped.", stacklevel=3)
        if not probe._unreadable:
            os.truncate(self.path, probe._end)
            return
        part = self.path.with_name(self.path.name + ".part")
        shutil.copyfile(self.path, part)
        os.truncate(part, probe._end)
        part.replace(self.path)


FORMAT = 1


def open_journal(root: Path, key: Mapping[str, Any], *, width: int) -> Journal:
    """Open, or begin, the file of what a key says.

    Convention:
        - The file lies in ``root``, in a folder named by the hash of the key, beside ``key.json``.

    Args:
        root: Folder of many such files.
        key: All that the rows depend on; plain values.
        width: Floats a row.

    Raises:
        InputError: if the folder holds the rows of another key, or its key cannot be read.
    """
    full = {"format": FORMAT, "width": width, **key}
    text = json.dumps(full, sort_keys=True, indent=1)
    folder = root / hashlib.sha256(text.encode()).hexdigest()[:16]
    path = folder / "key.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            part = folder / f"key.json.{os.getpid()}"
            part.write_text(text)
            part.replace(path)
        there = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"teacher.cache_dir: {path} cannot be used ({error}); delete the folder {folder}, or "
            "name another teacher.cache_dir."
        ) from error
    if there != json.loads(text):
        differing = sorted(k for k in {*there, *full} if there.get(k) != json.loads(text).get(k))
        raise InputError(
            f"teacher.cache_dir: {folder} holds what another teacher or other data gave "
            f"({', '.join(differing)} differ); delete that folder, or name another teacher.cache_dir."
        )
    return Journal(folder / "rows.bin", width)
