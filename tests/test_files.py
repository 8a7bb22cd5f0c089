"""Files: written whole or not at all, on a full disk too; one writer for a folder."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch

from distill.errors import InputError, StorageError
from distill.files import HOLDER_NAME, LOCK_NAME, find_storage_error, locked, replacing, storage_errors, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError, match="stop"), replacing(path) as part:  # noqa: PT012
        part.write_text("new")
        raise RuntimeError("stop")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_full_disk_is_one_error_and_leaves_the_old_file(disk: Path) -> None:
    path = write_text(disk / "a.txt", "old")
    message = rf"^{path}.* cannot be written: No space left on device. Free space on that disk, then run the same"
    with pytest.raises(StorageError, match=message):
        write_text(path, "x" * 2_000_000)
    with pytest.raises(StorageError, match="No space left"), replacing(path) as part, part.open("wb") as file:
        torch.save({"a": torch.rand(1_000_000)}, file)
    assert path.read_text() == "old"
    assert names(disk) == ["a.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_an_error_of_the_file_system_names_the_file(tmp_path: Path, number: int) -> None:
    message = r"/b\.txt cannot be written: .*, then run the same command again\.$"
    with pytest.raises(StorageError, match=message), replacing(tmp_path / "b.txt"):
        raise OSError(number, "refused")
    assert names(tmp_path) == []


def test_a_removed_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.txt"
    with pytest.raises(StorageError, match="was removed while the command ran"), replacing(path) as part:  # noqa: PT012
        part.parent.rmdir()
        part.write_text("text")


def test_an_error_that_has_its_message_passes() -> None:
    with pytest.raises(InputError, match="my file"), storage_errors("a"):  # noqa: PT012
        try:
            raise FileNotFoundError(errno.ENOENT, "No such file")
        except OSError as error:
            raise InputError("my file is missing") from error
    with pytest.raises(StorageError, match=r"^inner cannot"), storage_errors("outer"), storage_errors("inner"):
        raise OSError(errno.ENOSPC, "full")


def test_other_errors_pass() -> None:
    with pytest.raises(ConnectionError), storage_errors("a"):
        raise ConnectionError(errno.ECONNRESET, "reset")
    with pytest.raises(ValueError, match="mine"), storage_errors("a"):
        raise ValueError("mine")
    assert find_storage_error(RuntimeError("no cause")) is None


def _hold(folder: str, ready: multiprocessing.synchronize.Event) -> None:
    with locked(folder, doing="training"):
        ready.set()
        signal.pause()


def test_a_folder_has_one_writer_and_a_dead_one_blocks_nobody(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path), ready))
    other.start()
    assert ready.wait(60)
    message = rf"{tmp_path} is in use by process {other.pid} on .* \(training\)\. Wait until it ends, or stop it\."
    with pytest.raises(InputError, match=message), locked(tmp_path, doing="evaluating"):
        pass
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with locked(tmp_path, doing="evaluating"):
        assert names(tmp_path) == [LOCK_NAME, HOLDER_NAME]
    assert not (tmp_path / HOLDER_NAME).exists()
