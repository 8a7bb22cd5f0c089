"""One process writes to a folder: a second command is refused, and is told who has the folder."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest
from PIL import Image

from distill.build import load_config
from distill.files import locked
from distill.workflows.train import train_config
from tests.e2e.helpers import QUIET, SMALL, TINY, Command

NAME = "a"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(folder: Path, doing: str) -> str:
    who = f"process {os.getpid()} on {socket.gethostname()} ({doing})"
    return f"distill: {folder} is in use by {who}. Wait until it ends, or stop it."


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    return train_config(load_config([TINY], [*SMALL, *QUIET, f"output_dir={folder}", f"name={NAME}"])).directory


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / NAME))


@pytest.mark.parametrize("arguments", [("seed=0",), ("seed=1",), ("seed=1", "--overwrite")])
def test_a_run_directory_has_one_training(distill: Command, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    folder = tmp_path / NAME
    with locked(folder, doing="training"):
        before = contents(folder)
        result = distill("train", TINY, *SMALL, *QUIET, f"output_dir={tmp_path}", f"name={NAME}", *arguments)
        assert (result.code, result.message) == (2, refused(folder, "training"))
        assert contents(folder) == before
    assert not folder.exists()


def test_another_process_that_starts_during_the_checks_is_noticed(
    distill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / NAME
    monkeypatch.setattr("distill.workflows.train.check_unlocked", lambda folder: None)
    with locked(folder, doing="training"):
        result = distill("train", TINY, *SMALL, *QUIET, f"output_dir={tmp_path}", f"name={NAME}")
        assert (result.code, result.message) == (2, refused(folder, "training"))


def test_a_process_of_another_rank_takes_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.training import is_first_process

    assert is_first_process()
    for name in ("LOCAL_RANK", "RANK", "NODE_RANK"):
        with monkeypatch.context() as patched:
            patched.setenv(name, "1")
            assert not is_first_process()
            patched.setenv(name, "0")
            assert is_first_process()


def test_an_output_folder_has_one_evaluation(distill: Command, run: Path, tmp_path: Path) -> None:
    for arguments, folder in ((), run), (("--output", tmp_path / "results"), tmp_path / "results"):
        with locked(folder, doing="evaluating"):
            before = contents(folder)
            result = distill("evaluate", run, "--perturbed", 0, "--explained", 0, "--no-sanity", *arguments)
            assert (result.code, result.message.rpartition("distill: ")[2]) == (
                2,
                refused(folder, "evaluating").removeprefix("distill: "),
            )
            assert contents(folder) == before


def test_a_file_has_one_export(distill: Command, run: Path) -> None:
    pytest.importorskip("onnx")
    with locked(run, doing="exporting student.pt2", name=".student.pt2.lock"):
        result = distill("export", run, "--format", "pt2", "--limit", 4)
        assert (result.code, result.message) == (2, refused(run, "exporting student.pt2"))
        assert not (run / "student.pt2").exists()
    with locked(run, doing="evaluating"):  # reads the run only
        assert distill("export", run, "--format", "pt2", "--limit", 4).code == 0
    assert not (run / ".student.pt2.lock").exists()


def test_a_folder_of_pictures_has_one_writer(distill: Command, run: Path, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "boot.png")
    with locked(run / "explained", doing="explaining"):
        result = distill("explain", run, tmp_path / "boot.png", "--no-reference")
        assert (result.code, result.message) == (2, refused(run / "explained", "explaining"))
    assert distill("explain", run, tmp_path / "boot.png", "--no-reference").code == 0


def test_a_report_has_one_writer(distill: Command, run: Path) -> None:
    (run / "evaluation.json").write_text("{}")
    with locked(run, doing="evaluating"):
        result = distill("report", run)
        assert (result.code, result.message) == (2, refused(run, "evaluating"))


def test_a_lock_of_a_dead_process_blocks_nobody(distill: Command, run: Path, tmp_path: Path) -> None:
    (run / ".lock").touch()
    (run / ".lock.json").write_text('{"pid": 1, "host": "elsewhere", "doing": "training"}')
    again = distill("train", TINY, *SMALL, *QUIET, f"output_dir={tmp_path}", f"name={NAME}", "seed=1", "--overwrite")
    assert again.code == 0
    assert not (run / ".lock.json").exists()
