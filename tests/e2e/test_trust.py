"""Names of code in the files of a run: imported only if the user wrote the same name, or says `--trust`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import distill as package
from distill.ablation.run import plan
from distill.checksums import read_checked, save_checked
from distill.errors import InputError
from distill.models import load_model
from distill.models.damage import add_checksum
from distill.models.weights import load_network
from distill.untrusted import Trust
from tests.e2e.helpers import QUIET, SMALL, TINY, Command, command

STRANGER = """
from pathlib import Path
Path(__file__).with_name("executed").touch()
from distill.models.wrn import WideResNet

def make(num_classes, in_channels=3, **options):
    return WideResNet(10, 1, num_classes=num_classes, in_channels=in_channels)
"""
NAME = "module_of_a_stranger:make"
REFUSED = f"asks to import '{NAME}', which executes code. If you know this code, name it with `--network {NAME}`"
FAST = ("--perturbed", 0, "--explained", 0, "--no-sanity", "--limit", 8, "--gallery", 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run of a built-in network."""
    folder = tmp_path_factory.mktemp("trained")
    pairs = [*SMALL, *QUIET, "trainer.accelerator=cpu"]
    return package.train(TINY, output_dir=str(folder), student="wrn_10_1", overrides=pairs).directory


@pytest.fixture
def folder(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the run directory `run` and the code of a stranger."""
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "module_of_a_stranger.py").write_text(STRANGER)
    (tmp_path / "hubconf.py").write_text(STRANGER)
    Image.new("RGB", (16, 16)).save(tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "module_of_a_stranger", raising=False)
    rename(tmp_path / "run", NAME)
    return tmp_path


def rename(run: Path, name: str, **options: Any) -> None:
    path = run / "student.json"
    save_checked(read_checked(path, remedy="") | {"name": name, "options": options}, path)


COMMANDS: dict[str, tuple[Any, ...]] = {
    "evaluate": ("evaluate", "run", *FAST),
    "explain": ("explain", "run", "image.png"),
    "export": ("export", "run", "--format", "pt2", "--limit", 4),
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_a_command_does_not_import_what_a_run_names(distill: Command, folder: Path, arguments: tuple[Any, ...]) -> None:
    result = distill(*arguments)
    assert result.code == 2
    assert f"run/student.json {REFUSED}" in result.message
    assert result.message.endswith("or trust the file with `--trust` (in Python: `trust=True`).")
    other = distill(*arguments, "--network", "tests.models.helpers:OwnNetwork")
    assert (other.code, REFUSED in other.message) == (2, True)
    assert not (folder / "executed").exists()


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_a_command_imports_what_the_user_names_or_trusts(
    distill: Command, folder: Path, arguments: tuple[Any, ...]
) -> None:
    assert distill(*arguments, "--network", NAME).code == 0
    assert (folder / "executed").exists()
    overwrite = ("--overwrite",) if arguments[0] == "export" else ()
    assert distill(*arguments, *overwrite, "--trust").code == 0


def test_a_network_of_torch_hub_needs_trust(distill: Command, folder: Path) -> None:
    rename(folder / "run", "torch.hub:load", repo_or_dir=str(folder), model="make", source="local")
    for arguments in COMMANDS.values():
        result = distill(*arguments, "--network", "torch.hub:load")
        assert result.code == 2
        assert "executes code that the options in the file choose" in result.message
    assert not (folder / "executed").exists()
    load_model("run", trust=True)
    assert (folder / "executed").exists()


def test_python_imports_only_what_the_user_names_or_trusts(folder: Path) -> None:
    sys.path.append(str(folder))
    try:
        for load in (load_model, package.export_model, lambda run: package.explain_images(run, "image.png")):
            with pytest.raises(InputError, match="asks to import"):
                load("run")
        with pytest.raises(InputError, match="asks to import"):
            package.evaluate("run")
        assert not (folder / "executed").exists()
        assert load_model("run", network=NAME).spec.name == load_model("run", trust=True).spec.name == NAME
    finally:
        sys.path.remove(str(folder))


@pytest.mark.parametrize("kind", ["run", "checkpoint"])
def test_training_does_not_import_what_the_files_of_the_teacher_name(distill: Command, folder: Path, kind: str) -> None:
    teacher = folder / "run"
    if kind == "checkpoint":
        teacher = folder / "teacher.ckpt"
        content = torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)
        torch.save(add_checksum(content | {"student_spec": content["student_spec"] | {"name": NAME}}), teacher)
    train = (
        TINY,
        *SMALL,
        *QUIET,
        "student.name=wrn_10_1",
        f"teacher.checkpoint={teacher}",
        "objective.soft_targets={}",
    )
    for verb in ("train", "cache"):
        result = distill(verb, *train)
        assert result.code == 2
        assert REFUSED in result.message
    assert not (folder / "executed").exists()
    assert not (folder / "runs" / "tiny").exists()
    assert distill("train", *train, f"teacher.name={NAME}").code == 0
    assert (folder / "executed").exists()
    assert distill("train", *train, "name=other", "--trust").code == 0


def test_a_teacher_that_only_the_config_of_a_run_names_is_left_out(distill: Command, folder: Path) -> None:
    rename(folder / "run", "wrn_10_1")
    state = load_model(folder / "run").network.state_dict()
    torch.save(state, folder / "teacher.pth")
    config = folder / "run" / "config.yaml"
    section = (
        f"teacher: {{checkpoint: {folder}/teacher.pth, name: '{NAME}', "
        "normalisation: {mean: [0, 0, 0], std: [1, 1, 1]}}\n"
    )
    config.write_text(config.read_text().replace("teacher: null\n", section))
    (folder / "run" / "environment.json").unlink()  # has the checksum of the configuration
    result = distill("explain", "run", "image.png")
    assert result.code == 0
    assert f"the student is shown without its teacher: {folder}/teacher.pth {REFUSED}" in result.message
    assert not (folder / "executed").exists()


def test_a_finished_run_carries_the_names_of_the_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    pairs = [*SMALL, *QUIET, "trainer.accelerator=cpu"]
    teacher = package.train(TINY, name="teacher", student=NAME, overrides=pairs)
    assert teacher.student.spec.name == NAME
    objective: dict[str, Any] = {"soft_targets": {}}
    run = package.train(TINY, student="wrn_10_1", teacher=teacher, objective=objective, overrides=pairs)
    assert run.teacher is not None
    assert run.teacher.spec.name == NAME
    assert len(package.explain_images(run, "image.png")[0].views) == 2
    with pytest.raises(InputError, match="asks to import"):
        package.train(TINY, name="b", teacher=teacher.directory, objective=objective, overrides=pairs)


def test_the_name_of_a_plain_state_dict_comes_from_the_caller(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    rename(folder / "run", "wrn_10_1")
    torch.save(load_model("run").network.state_dict(), "plain.pth")
    scaling = {"mean": [0.0] * 3, "std": [1.0] * 3}
    assert load_network("plain.pth", name=NAME, num_classes=10, normalisation=scaling).spec.name == NAME
    with pytest.raises(InputError, match="asks to import"):
        load_network("plain.pth", name=NAME, num_classes=10, normalisation=scaling, trust=False)


def test_the_working_directory_is_searched_only_for_names_of_the_user(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run_command = command(monkeypatch, capfd)
    run_command("list", "models")
    assert str(folder) not in sys.path
    rename(folder / "run", "wrn_10_1")
    run_command("explain", "run", "image.png")
    assert str(folder) not in sys.path


def test_an_ablation_imports_the_names_of_its_files(distill: Command, folder: Path) -> None:
    rename(folder / "run", NAME)
    (folder / "ablation.yaml").write_text(
        f"name: a\nbase: {TINY}\noutput_dir: out\nseeds: [0]\nmetrics: [test/accuracy]\nbaseline: KD\n"
        f"overrides: {{teacher.checkpoint: {folder}/run, objective.soft_targets: {{}}, student.name: wrn_10_1}}\n"
        "rows: {KD: {}}\n"
    )
    data = ("overrides.data.size=16", "overrides.data.count={train: 32, validation: 16}")
    result = distill("ablate", "ablation.yaml", *data)
    assert (result.code, REFUSED in result.message) == (2, True)
    assert not (folder / "executed").exists()


def test_an_ablation_trusts_the_names_of_its_teacher(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    (folder / "ablation.yaml").write_text(
        f"name: a\nbase: {TINY}\noutput_dir: out\nseeds: [0]\nmetrics: [test/accuracy]\nbaseline: KD\n"
        f"teacher: {{base: {TINY}, overrides: {{student.name: '{NAME}'}}}}\n"
        "rows: {KD: {objective.soft_targets: {}}}\n"
    )
    assert plan("ablation.yaml").trusted == Trust(names=frozenset({NAME}))
    assert plan("ablation.yaml", trust=True).trusted.everything
