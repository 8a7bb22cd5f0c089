"""The demo: its shipped teacher, its arguments, and the students' cache."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from distill.build import load_config, load_images
from distill.build.training_run import run_identity
from distill.errors import InputError
from distill.models import load_model
from distill.training import RunDirectory
from scripts.demo_teacher import CONFIG, SHIPPED, SUMS, WEIGHTS, check_sums, copy_teacher, digest_of, main, read_sums
from tests.e2e.helpers import QUIET, Command

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "demo"


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """Return a copy of the shipped teacher that a test may damage."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "shipped"))


def test_the_shipped_weights_have_their_sum() -> None:
    check_sums(SHIPPED)
    assert set(read_sums(SHIPPED)) == {WEIGHTS, "student.json"}


def test_the_shipped_teacher_is_that_of_the_configuration(tmp_path: Path) -> None:
    assert copy_teacher(SHIPPED, tmp_path / "teacher")
    expected = load_config([ROOT / CONFIG])
    assert load_config([SHIPPED / "config.yaml"]) == expected
    assert RunDirectory(tmp_path / "teacher").state(run_identity(expected)) == "done"


def test_the_shipped_teacher_is_trained() -> None:
    network = load_model(SHIPPED)
    data = load_images(load_config([ROOT / CONFIG]).data, "validation").subset(list(range(250)))
    assert network.classes == data.classes
    with torch.no_grad():
        accuracy = (network(data.images.float() / 255).argmax(1) == data.labels).double().mean()
    assert accuracy > 0.6


def test_a_copied_teacher_is_a_finished_run(distill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    assert digest_of(Path("runs/demo/teacher") / WEIGHTS) == read_sums(SHIPPED)[WEIGHTS]
    result = distill("train", ROOT / CONFIG)
    assert result.code == 0
    assert "teacher: already done" in result.message
    settings = ("--perturbed", 0, "--explained", 0, "--no-sanity", "--gallery", 0, "--limit", 8)
    assert distill("evaluate", "runs/demo/teacher", "--on", "background=unbiased", *settings).code == 0


@pytest.mark.parametrize("name", [WEIGHTS, "student.json"])
def test_a_changed_file_is_not_used(shipped: Path, tmp_path: Path, name: str) -> None:
    with (shipped / name).open("r+b") as file:
        file.seek(100)
        file.write(b"damaged")
    with pytest.raises(InputError) as caught:
        copy_teacher(shipped, tmp_path / "teacher")
    message = str(caught.value)
    assert message.startswith(f"{shipped / name}: expected the SHA-256 sum {read_sums(shipped)[name]}, got ")
    assert str(digest_of(shipped / name)) in message
    assert "scripts/demo --train-teacher" in message
    assert not (tmp_path / "teacher").exists()


def test_a_missing_file_is_an_error(shipped: Path, tmp_path: Path) -> None:
    (shipped / WEIGHTS).unlink()
    with pytest.raises(InputError, match="got no file"):
        copy_teacher(shipped, tmp_path / "teacher")


def test_a_changed_file_ends_the_script_with_2(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (shipped / WEIGHTS).write_bytes(b"")
    monkeypatch.setattr("scripts.demo_teacher.SHIPPED", shipped)
    assert main([]) == 2
    assert capsys.readouterr().err.startswith(f"distill: {shipped / WEIGHTS}: expected the SHA-256 sum ")


def test_another_finished_teacher_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "runs" / "demo" / "teacher" / WEIGHTS
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"another")
    assert main([]) == 0
    assert weights.read_bytes() == b"another"
    assert [path.name for path in weights.parent.iterdir()] == [WEIGHTS]
    assert "using the teacher in this folder" in capsys.readouterr().err


def test_an_unfinished_teacher_is_an_error(tmp_path: Path) -> None:
    target = tmp_path / "teacher"
    target.mkdir()
    (target / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(InputError, match="has not finished"):
        copy_teacher(SHIPPED, target)


@pytest.mark.parametrize(
    ("copied", "arguments"),
    [(True, ["--overwrite", "seed=1"]), (False, ["seed=1"])],
)
def test_training_replaces_only_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: bool, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if copied:
        main([])
    commands: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 7)

    monkeypatch.setattr(subprocess, "run", run)
    assert main(["--train", "seed=1"]) == 7
    assert commands == [["distill", "train", CONFIG, *arguments]]


@pytest.mark.parametrize("argument", ["name=x", "output_dir=x", "--fast", "fast", "--train-teacher=yes"])
def test_arguments_that_the_demo_refuses(argument: str) -> None:
    result = subprocess.run([ROOT / "scripts" / "demo", argument], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert "scripts/demo" in result.stderr


def test_sums_are_those_that_sha256sum_reads() -> None:
    lines = (SHIPPED / SUMS).read_text().splitlines()
    assert lines == [f"{digest_of(SHIPPED / name)}  {name}" for name in (WEIGHTS, "student.json")]


@pytest.mark.slow
def test_the_second_student_does_not_ask_the_teacher(
    distill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main([])
    hits = {}
    for run in ("kd_grad_cam_pp", "kd"):  # in the order of scripts/demo
        small = ("data.count={train: 64, validation: 32}", "data.batch_size=32", "trainer.max_epochs=2", *QUIET)
        result = distill("train", DEMO / f"{run}.yaml", *small, "trainer.accelerator=cpu")
        assert result.code == 0, result.err
        with (Path("runs/demo") / run / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        hits[run] = [float(row["train/teacher_cache_hits"]) for row in rows if row["train/teacher_cache_hits"]]
    assert hits == {"kd_grad_cam_pp": [0.0, 0.0], "kd": [1.0, 1.0]}
