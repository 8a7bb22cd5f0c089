"""``~`` at the start of a path is the home folder: in configurations, on the command line and in Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from PIL import Image

import distill
from distill.ablation.plan import plan_ablation
from distill.build import run_identity
from distill.config import load
from distill.data import fingerprint, load_split
from tests.e2e.helpers import QUIET, SMALL, Command
from tests.training.helpers import save_teacher


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    (folder / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder / "work")
    return folder


def test_every_path_of_a_configuration(home: Path) -> None:
    for name in ("cat", "dog"):
        for i in range(10):
            (home / "pets" / name).mkdir(parents=True, exist_ok=True)
            Image.effect_noise((8, 8), 50).save(home / "pets" / name / f"{i}.png")
    save_teacher(home / "teacher")
    (home / "base.yaml").write_text("optimizer: {lr: 0.07}\n")
    (home / "run.yaml").write_text(
        "extends: ~/base.yaml\noutput_dir: ~/runs\ndata: {name: image_folder, root: ~/pets, size: 8}\n"
        "teacher: {checkpoint: ~/teacher, cache_dir: ~/cache}\nobjective: {soft_targets: {weight: 1}}\n"
    )
    config = load(["~/run.yaml"])
    assert config.teacher is not None
    assert config.optimizer.lr == 0.07
    assert config.directory == home / "runs" / "run"
    assert config.data.options["root"] == str(home / "pets")
    assert (config.teacher.checkpoint, config.teacher.cache_dir) == (str(home / "teacher"), str(home / "cache"))
    written = [f"output_dir={home}", f"data.root={home / 'pets'}", f"teacher.checkpoint={home / 'teacher'}"]
    assert run_identity(config) == run_identity(load(["~/run.yaml"], written))
    assert len(load_split("image_folder", "train", root="~/pets", size=8)) == 16
    assert fingerprint("image_folder", {"root": "~/pets"}) == fingerprint("image_folder", {"root": home / "pets"})


def test_commands_and_python(home: Path, distill_command: Command) -> None:
    run = distill.train(
        student="wrn_10_1",
        data={"size": 16, "count": {"train": 32, "validation": 16}, "batch_size": 16},
        epochs=1,
        output_dir="~/runs",
        trainer={"enable_progress_bar": False},
        loggers={"tensorboard": False},
    )
    assert run.directory == home / "runs" / "run"
    assert distill.load_model("~/runs/run").spec.name == "wrn_10_1"
    Image.effect_noise((16, 16), 50).save(home / "a.png")
    assert distill_command("explain", "~/runs/run", "~/a.png", "--output=~/seen").code == 0
    fast = ("--perturbed=0", "--explained=0", "--no-sanity", "--limit=8", "--gallery=0", "--on=count=8")
    assert distill_command("evaluate", "student=~/runs/run", *fast, "--output=~/seen").code == 0
    assert distill_command("report", "~/seen").code == 0
    assert distill_command("export", "~/runs/run", "--format=pt2", "--limit=4", "--output=~/a.pt2").code == 0
    assert distill_command("train", *SMALL, *QUIET, "student.name=wrn_10_1", "output_dir=~/more").code == 0
    assert {path.name for path in home.iterdir()} == {"runs", "seen", "work", "a.png", "a.pt2", "more"}
    assert not list((home / "work").iterdir())


def test_an_ablation_file(home: Path) -> None:
    (home / "base.yaml").write_text("student: {name: wrn_10_1}\n")
    content = {
        "name": "grid",
        "output_dir": "~/ablations",
        "base": "~/base.yaml",
        "axes": {"optimizer.lr": [0.1, 0.2]},
        "seeds": 1,
        "metrics": ["validation/accuracy"],
        "baseline": "lr=0.1",
    }
    OmegaConf.save(OmegaConf.create(content), home / "grid.yaml")
    ablation = plan_ablation("~/grid.yaml")
    assert ablation.trials[0].config.directory.is_relative_to(home / "ablations")
