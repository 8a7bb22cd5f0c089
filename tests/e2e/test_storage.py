"""Full disks and other errors of the file system: one error, the last good checkpoint, and the same command goes on."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from distill.build import load_config
from distill.training import RunDirectory
from distill.workflows.train import train_config
from tests.e2e.helpers import QUIET, SMALL, TINY, Command

PAIRS = (TINY, *SMALL, *QUIET, "student.name=wrn_10_1", "name=a", "trainer.max_epochs=3")
FULL = r"No space left on device. Free space on that disk, then run the same command again."


def train_arguments(folder: Path, *pairs: str) -> tuple[str, ...]:
    return ("train", *PAIRS, f"output_dir={folder}", *pairs)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    return train_config(load_config([TINY], [*PAIRS[1:], f"output_dir={folder}"])).directory


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "a"))


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, number: int = errno.ENOSPC) -> None:
    """Let the file system refuse a file once it is written."""
    flush = os.fsync

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == name:
            raise OSError(number, os.strerror(number))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def test_training_goes_on_after_a_full_disk(distill: Command, disk: Path, trained: Path) -> None:
    size = RunDirectory(trained).last.stat().st_size
    command = train_arguments(disk, "loggers.tensorboard=true")
    subprocess.run(["mount", "-o", f"remount,size={int(2.5 * size) + (1 << 16)}", str(disk)], check=True)
    result = distill(*command)
    assert result.code == 1
    assert FULL in result.message
    assert result.message.count("distill:") == 1
    directory = RunDirectory(disk / "a")
    step = torch.load(directory.last, weights_only=True)["global_step"]
    assert 0 < step < 6
    assert not list(directory.path.rglob("*.part"))
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    result = distill(*command)
    assert (result.code, result.message) == (0, f"a: resumed and trained; the student is in {disk / 'a'}")
    name = "student.safetensors"
    assert (directory.path / name).read_bytes() == (trained / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *(("checkpoints/last.ckpt", number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)),
        *((name, errno.ENOSPC) for name in ("environment.json", "config.yaml", "metrics.csv", "student.safetensors")),
    ],
)
def test_a_file_of_training_that_is_refused(
    distill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, trained: Path
) -> None:
    with monkeypatch.context() as patched:
        refuse(patched, f"{Path(name).name}.part", number)
        result = distill(*train_arguments(tmp_path))
    assert result.code == 1
    assert result.message.startswith(f"distill: {tmp_path / 'a' / name} cannot be written: {os.strerror(number)}. ")
    assert distill(*train_arguments(tmp_path)).code == 0
    weights = "student.safetensors"
    assert (tmp_path / "a" / weights).read_bytes() == (trained / weights).read_bytes()


def test_a_row_of_metrics_that_is_refused(distill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def full(path: Path, mode: str = "r", **keywords: Any) -> Any:
        if path.name == "metrics.csv" and mode != "r":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, mode, **keywords)

    monkeypatch.setattr(Path, "open", full)
    result = distill(*train_arguments(tmp_path))
    assert (result.code, result.message) == (1, f"distill: {tmp_path / 'a' / 'metrics.csv'} cannot be written: {FULL}")


def test_a_removed_run_directory_is_not_created_again(
    distill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distill.training import DistillationModule

    def remove(module: DistillationModule) -> None:
        shutil.rmtree(tmp_path / "a", ignore_errors=True)

    monkeypatch.setattr(DistillationModule, "on_validation_start", remove)
    result = distill(*train_arguments(tmp_path))
    assert result.code == 1
    assert "was removed while the command ran" in result.message
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("good", [0, 2])
def test_event_files_that_cannot_be_written_do_not_end_the_run(
    distill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    written: list[object] = []

    def full(*_: object) -> None:
        written.append(None)
        if len(written) > good:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
    with pytest.warns(UserWarning, match=r"^TensorBoard: .* No space left on device; the run goes on without these"):
        result = distill(*train_arguments(tmp_path, "loggers.tensorboard=true"))
    assert result.code == 0
    assert (tmp_path / "a" / "student.safetensors").exists()


EVALUATE = ("--perturbed", 0, "--explained", 0, "--no-sanity")


@pytest.mark.parametrize("name", ["per_image.parquet", "evaluation.json", "maps.png", "report.html"])
def test_a_file_of_an_evaluation_that_is_refused(
    distill: Command, run: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    refuse(monkeypatch, f"{name}.part")
    result = distill("evaluate", run, *EVALUATE)
    assert result.code == 1
    assert result.message.endswith(f"distill: {run / name} cannot be written: {FULL}")


def test_a_picture_an_export_and_a_report_that_are_refused(
    distill: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "boot.png")
    assert distill("evaluate", run, *EVALUATE).code == 0
    for name, path, arguments in (
        ("boot_explained.png", run / "explained", ("explain", run, tmp_path / "boot.png", "--no-reference")),
        ("student.pt2", run, ("export", run, "--format", "pt2", "--limit", 4)),
        ("report.html", run, ("report", run)),
    ):
        with monkeypatch.context() as patched:
            refuse(patched, f"{name}.part")
            result = distill(*arguments)
        assert (result.code, result.message) == (1, f"distill: {path / name} cannot be written: {FULL}")
        assert distill(*arguments).code == 0


def test_a_full_disk_of_the_cache(distill: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def full(path: Path, mode: str = "r", **keywords: Any) -> Any:
        if path.name == "rows.bin" and mode == "ab":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, mode, **keywords)

    command = (
        *PAIRS,
        f"output_dir={tmp_path}",
        "name=b",
        f"teacher.checkpoint={run}",
        "objective.soft_targets.weight=1",
    )
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        result = distill("cache", *command)
    assert result.code == 1
    assert result.message.endswith(f"rows.bin cannot be written: {FULL}")
    assert distill("cache", *command).code == 0


def test_a_read_only_file_system(distill: Command, disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    result = distill(*train_arguments(disk))
    assert result.code == 1
    expected = f"distill: {disk / 'a'} cannot be written: Read-only file system. The file system is read-only: choose"
    assert result.message.startswith(expected)


def test_any_other_error_of_the_file_system_is_one_message(distill: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(kind: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "names.txt")

    monkeypatch.setattr("distill.cli.listing.run", full)
    result = distill("list", "models")
    message = (
        "distill: names.txt cannot be read or written: Input/output error. The disk reports an error: check it, then"
    )
    assert (result.code, result.message) == (1, f"{message} run the same command again.")
