"""Checkpoint files: replaced atomically on every file system, with the one before as a reserve."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch

from distill.config import Config
from distill.errors import InputError
from distill.training import RunDirectory
from distill.training.checkpoint_files import AtomicCheckpointIO, find_resume_point
from distill.workflows.train import train_config
from tests.training.helpers import CrashError, checkpoint, crash_at, small
from tests.training.helpers import train as train_with

PAIRS = ("trainer.max_epochs=3", "data.count={train: 32, validation: 16}", "optimizer.lr=0.05")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return small(tmp_path, *PAIRS)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Weights of an undisturbed run."""
    run = train_config(small(tmp_path_factory.mktemp("straight"), *PAIRS))
    return (run.directory / "student.safetensors").read_bytes()


@pytest.fixture
def cut(config: Config) -> RunDirectory:
    """A run that ended in its third epoch, with checkpoints of the second (last), the first (previous) and one best."""
    with pytest.raises(CrashError):
        train_with(config, before_step=crash_at(5))
    directory = RunDirectory(config.directory)
    assert [checkpoint(path)["global_step"] for path in (directory.last, directory.previous)] == [4, 2]
    return directory


def test_checkpoints_are_written_beside_the_file_that_they_replace(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the system's temporary folder was used")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    monkeypatch.setattr("fsspec.implementations.local.LocalFileOpener.commit", refuse)
    train_config(config)
    folder = RunDirectory(config.directory).last.parent
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt"]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_damaged_last_checkpoint_is_replaced_by_the_previous_one(
    config: Config, cut: RunDirectory, straight: bytes, share: float
) -> None:
    whole = cut.last.read_bytes()
    cut.last.write_bytes(whole[: int(share * len(whole))])
    messages: list[str] = []
    assert train_config(config, notify=messages.append).action == "resume"
    assert messages == [f"{cut.last} cannot be read; the run resumes from previous.ckpt at step 2."]
    assert (cut.path / "student.safetensors").read_bytes() == straight


def test_the_best_checkpoint_is_the_last_reserve(config: Config, cut: RunDirectory, straight: bytes) -> None:
    cut.last.write_bytes(b"")
    cut.previous.write_bytes(b"x" * 5000)
    messages: list[str] = []
    train_config(config, notify=messages.append)
    assert messages[0].startswith(f"{cut.last} and {cut.previous} cannot be read; the run resumes from best.ckpt at")
    assert (cut.path / "student.safetensors").read_bytes() == straight


def test_without_a_readable_checkpoint_there_is_one_error(config: Config, cut: RunDirectory) -> None:
    for path in (cut.last, cut.previous, cut.best):
        path.write_bytes(b"PK")
    message = rf"^{cut.last} and {cut.previous} and {cut.best} cannot be read, .* with --overwrite\.$"
    with pytest.raises(InputError, match=message):
        train_config(config)


def test_a_missing_last_checkpoint_is_replaced_by_the_previous_one(config: Config, cut: RunDirectory) -> None:
    cut.last.unlink()
    assert find_resume_point(cut)[:2] == (cut.previous, 2)
    assert train_config(config).action == "resume"


def test_a_damaged_file_is_never_kept_as_the_previous_one(cut: RunDirectory) -> None:
    cut.last.write_bytes(b"damaged")
    AtomicCheckpointIO(cut).save_checkpoint({"global_step": 3}, cut.last)
    assert [checkpoint(path)["global_step"] for path in (cut.last, cut.previous)] == [3, 2]


def test_a_file_system_without_hard_links_keeps_no_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    directory = RunDirectory(tmp_path)
    files = AtomicCheckpointIO(directory)
    for step in (1, 2):
        files.save_checkpoint({"global_step": step, "weights": torch.zeros(2)}, directory.last)
    assert [path.name for path in directory.last.parent.iterdir()] == ["last.ckpt"]


def test_a_damaged_best_checkpoint_is_one_error(config: Config, cut: RunDirectory) -> None:
    train_config(config)
    (cut.path / "student.safetensors").unlink()
    cut.best.write_bytes(b"damaged")
    with pytest.raises(InputError, match=rf"^{cut.best} cannot be read\. Train from the start with --overwrite\.$"):
        train_config(config)


def test_a_flipped_bit_in_the_last_checkpoint_is_noticed(config: Config, cut: RunDirectory, straight: bytes) -> None:
    content = bytearray(cut.last.read_bytes())
    weights = next(iter(checkpoint(cut.last)["state_dict"].values()))
    content[content.index(weights.numpy().tobytes())] ^= 1  # not a byte between two entries, which means nothing
    cut.last.write_bytes(content)
    messages: list[str] = []
    assert train_config(config, notify=messages.append).action == "resume"
    assert messages == [f"{cut.last} cannot be read; the run resumes from previous.ckpt at step 2."]
    assert (cut.path / "student.safetensors").read_bytes() == straight
