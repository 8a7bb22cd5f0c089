"""Write files atomically and durably, and lock folders so that each has one writer."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from distill.errors import InputError, RunError, StorageError

#: Files of :func:`locked`: the lock, and the process that has it.
LOCK_NAME, HOLDER_NAME = ".lock", ".lock.json"
#: Seconds to wait for a lock; :func:`check_unlocked` has it for a moment.
_LOCK_TIMEOUT = 0.2
#: What the user can do about an error of the operating system.
_REMEDIES = {
    errno.ENOSPC: "Free space on that disk",
    errno.EDQUOT: "Free space: the quota is used up",
    errno.EROFS: "The file system is read-only: choose another folder, or mount it for writing",
    errno.EACCES: "Change the permissions of the file or its folder, or choose another folder",
    errno.EPERM: "Change the permissions of the file or its folder, or choose another folder",
    errno.ENOENT: "The file or its folder was removed while the command ran: create it again",
    errno.ENOTDIR: "A part of the path is a file: choose another folder",
    errno.EISDIR: "A folder is in its place: move it away",
    errno.ENOTEMPTY: "A folder is in its place: move it away",
    errno.EEXIST: "Something else is in its place: move it away",
    errno.EIO: "The disk reports an error: check it",
    errno.EFBIG: "The file is too large for this file system or for the limit of the process",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.EMFILE: "Too many files are open: raise `ulimit -n`",
    errno.ENFILE: "Too many files are open on this machine",
    errno.ESTALE: "The network file system was lost: mount it again",
}


def expand_home(path: Path | str) -> str:
    """Return a path with ``~`` or ``~user`` at its start replaced by the home folder, as a shell does.

    Other paths, and those of an unknown user, are returned as they are.

    Example:
        >>> expand_home("runs/~a"), expand_home("~/runs") == str(Path.home() / "runs")
        ('runs/~a', True)
    """
    text = os.fspath(path)
    if text.startswith("~"):
        with contextlib.suppress(RuntimeError):  # there is no such user
            return str(Path(text).expanduser())
    return text


@contextmanager
def storage_errors(path: Path | str, *, failed: str = "cannot be written") -> Iterator[None]:
    """Turn an ``OSError`` of the file system into a :class:`StorageError` that names the file and the remedy.

    Args:
        path: Named in the message if the error does not name a file itself.
        failed: What failed, for the message.

    Raises:
        StorageError: For errors such as a full disk, a missing permission or a removed folder.

    Example:
        >>> with storage_errors("a.txt"):
        ...     raise OSError(errno.ENOSPC, "No space left on device")
        Traceback (most recent call last):
        distill.errors.StorageError: a.txt cannot be written: No space left on device. Free space on that disk, ...
    """
    try:
        yield
    except (InputError, RunError):  # has its message
        raise
    except Exception as error:
        cause = find_storage_error(error)
        if cause is None:
            raise
        raise StorageError(describe_storage_error(cause, path, failed=failed)) from error


def find_storage_error(error: BaseException) -> OSError | None:
    """Return the error of the file system that caused an exception, or None.

    Libraries hide it: torch reports a full disk as a ``RuntimeError`` that has the ``OSError`` as its context.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, OSError) and current.errno in _REMEDIES:
            return current
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return None


def describe_storage_error(error: OSError, path: Path | str | None = None, *, failed: str = "cannot be written") -> str:
    """Return a message that names the file, what failed, and what to do."""
    where = error.filename2 or error.filename or path or "a file"
    assert error.errno is not None
    return (
        f"{os.fsdecode(where)} {failed}: {os.strerror(error.errno)}. {_REMEDIES[error.errno]}, then run the "
        "same command again."
    )


@contextmanager
def replacing(path: Path | str, *, suffix: str = ".part") -> Iterator[Path]:
    """Yield a temporary path; on success it replaces ``path``, on an error it is removed.

    Convention:
        - The temporary file is in the same folder, so that the replacement is atomic on every file system. File and
          folder are flushed to the disk first: after a power failure the old or the new file is there, complete.

    Args:
        path: The file to write; missing folders are created.
        suffix: Appended to the file name to make the temporary name. Processes that write the same file need different
            suffixes.

    Raises:
        StorageError: If the file system refuses, for example because the disk is full. The old file is unchanged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, replacing(Path(folder) / "a.txt") as part:
        ...     _ = part.write_text("text")
        ...     part.name
        'a.txt.part'
    """
    path = Path(path)
    part = path.with_name(path.name + suffix)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            _flush(part)
            part.replace(path)
            _flush(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise


def write_text(path: Path | str, text: str) -> Path:
    """Write a UTF-8 text file atomically.

    Returns:
        The path.
    """
    path = Path(path)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def _flush(path: Path) -> None:
    """Flush a file or folder to the disk; file systems that cannot flush a folder are left alone."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF) or path.is_file():
            raise
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path | str, *, doing: str, name: str = LOCK_NAME, keep: bool = True) -> Iterator[None]:
    """Let only one process write to a folder.

    Convention:
        - The operating system releases the lock when the process ends, also if the process is killed.
        - The lock holds between machines if the network file system has locks (NFS version 4, Lustre with ``flock``,
          CephFS). On a file system without locks, the folder is not protected and no error is raised.
        - The empty file of the lock stays in the folder if ``keep`` is True: removing it is safe only between two
          processes, not among three. A folder that was created for the lock is removed if nothing was written to it.

    Args:
        folder: The folder; it is created.
        doing: What this process does, for the message that another process gets, such as ``training``.
        name: Name of the lock's file; locks with different names do not exclude each other.
        keep: Whether the lock's file stays; False for folders that are not the project's own.

    Raises:
        InputError: If another process has the lock. The message names it and its host.
        StorageError: If the file system refuses to write, for example because it is read-only.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, locked(folder, doing="training"):
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['.lock', '.lock.json']
    """
    folder = Path(folder)
    with storage_errors(folder):
        created = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        lock = _acquire(folder, name)
    if lock is None:
        yield
        return
    holder = folder / f"{name}.json"
    try:
        record = {"pid": os.getpid(), "host": socket.gethostname(), "doing": doing}
        with storage_errors(holder):
            holder.write_text(json.dumps(record), encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink()
        with contextlib.suppress(OSError):
            empty = created and [path.name for path in folder.iterdir()] == [name]
            if empty or not keep:
                (folder / name).unlink()
            if empty:
                folder.rmdir()
        lock.release()


def check_unlocked(folder: Path | str, *, name: str = LOCK_NAME) -> None:
    """Raise an error if another process has the lock of a folder; nothing is written.

    Raises:
        InputError: If another process has the lock. The message names it and its host.

    Example:
        >>> check_unlocked("runs/none")
    """
    if (Path(folder) / name).exists():
        with contextlib.suppress(OSError):
            lock = _acquire(Path(folder), name)
            if lock is not None:
                lock.release()


def _acquire(folder: Path, name: str) -> FileLock | None:
    """Return the acquired lock of a folder, or None if the file system has no locks."""
    lock = FileLock(folder / name, timeout=_LOCK_TIMEOUT)
    try:
        lock.acquire()
        while not (folder / name).exists():  # the process that had the lock has removed its file
            lock.release()
            lock.acquire()
    except Timeout as error:
        raise InputError(
            f"{folder} is in use by {_describe_holder(folder / f'{name}.json')}. Wait until it ends, or stop it."
        ) from error
    except NotImplementedError:
        return None
    return lock


def _describe_holder(holder: Path) -> str:
    try:
        record: Any = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {int(record['pid'])} on {str(record['host'])[:100]} ({str(record['doing'])[:100]})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
