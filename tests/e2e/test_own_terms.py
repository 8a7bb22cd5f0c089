"""Third-party terms from the command line: the example of docs/terms.md, mistakes, and run directories of others."""

from __future__ import annotations

import csv
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.config import custom_terms, load
from distill.losses import register_term, registry
from distill.models import load_model
from distill.training import DistillationModule
from distill.types import Batch
from tests.e2e.helpers import QUIET, SMALL, TINY, Command
from tests.losses import own_terms
from tests.losses.own_terms import block
from tests.training.helpers import save_teacher

OWN = Path(own_terms.__file__)
RECORDED = "Imported a module that a run directory names."


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("teacher"), "wrn_10_1")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module of the user's; as in a process that has imported nothing of it."""
    (tmp_path / "mine.py").write_text(block("python"))
    (tmp_path / "terms.py").write_text(OWN.read_text())
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "channels.yaml").write_text(block("yaml"))
    monkeypatch.chdir(tmp_path)
    forget(monkeypatch)
    return tmp_path


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "terms", "broken", "leaving"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(custom_terms, "_OPTIONS", {})


@pytest.fixture
def refused(distill: Command, folder: Path) -> Any:
    """Run `distill train` with something wrong; check that it is one message and that nothing is written."""

    def train(*pairs: str) -> str:
        said = distill("train", TINY, *SMALL, *QUIET, *pairs)
        assert said.code == 2, said.err
        assert said.err.startswith("distill: ")
        assert not (folder / "runs").exists()
        return said.message.removeprefix("distill: ")

    return train


def values(run: Path, column: str) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row[column]) for row in csv.DictReader(file) if row[column]]


def test_the_documented_example_trains(distill: Command, folder: Path, teacher: Path) -> None:
    here = ("train", TINY, folder / "channels.yaml", *SMALL, *QUIET, f"teacher.checkpoint={teacher}")
    assert distill(*here).code == 0
    run = folder / "runs" / "tiny"
    (value,), (weighted,) = values(run, "train/channels"), values(run, "train/channels_weighted")
    assert weighted == pytest.approx(3 * value, rel=1e-6)
    assert value > 0
    assert distill(*here).message == "tiny: already done; the student is in runs/tiny"
    assert "contains a run with another configuration" in distill(*here, "objective.channels.temperature=4").message


def test_a_run_that_was_cut_off_resumes(distill: Command, folder: Path, teacher: Path) -> None:
    pairs = (*SMALL, *QUIET, f"teacher.checkpoint={teacher}", "trainer.max_epochs=2", "data.batch_size=16")
    here = ("train", TINY, folder / "channels.yaml", *pairs)
    assert distill(*here, "name=straight").code == 0
    step = DistillationModule.training_step

    def interrupted(module: DistillationModule, batch: Batch, batch_idx: int = 0) -> Tensor:
        if module.global_step == 2:
            signal.raise_signal(signal.SIGINT)
        return step(module, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DistillationModule, "training_step", interrupted)
        assert distill(*here, "name=cut").code == 130
    assert "resumed and trained" in distill(*here, "name=cut").message
    networks = [load_model(folder / "runs" / name).state_dict() for name in ("straight", "cut")]
    assert all(torch.equal(networks[0][key], networks[1][key]) for key in networks[0])


def test_a_dry_run_fills_in_the_options(
    distill: Command, teacher: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = (f"teacher.checkpoint={teacher}", "objective.channels.temperature=null", "objective.channels.weight=2")
    assert (
        "temperature: input should be a valid number" in distill("train", "channels.yaml", *pairs, "--dry-run").message
    )
    said = distill("train", TINY, "objective.c={term: 'mine:ChannelWise'}", pairs[0], "--dry-run")
    (folder / "printed.yaml").write_text(said.out)
    forget(monkeypatch)
    term = load([folder / "printed.yaml"]).objective["c"]
    layers = {"layers": {"final": 1.0}, "teacher_layer": None, "layout": "auto", "teacher_layout": "auto"}
    assert term.model_extra == {**layers, "temperature": 4.0}
    assert not (folder / "runs").exists()


def test_several_mistakes_at_once(refused: Any, teacher: Path) -> None:
    message = refused(
        f"teacher.checkpoint={teacher}",
        "objective.a={term: 'mine:ChannelWise', temprature: 2, temperature: hot}",
        "objective.b.term=mine:ChannelWize",
        "objective.c.term=mine.ChannelWise",
        "objective.d.term=terms:Norm",
        "objective.soft_targets.temperture=2",
        "optimizer.lr=-1",
        "trainer.max_epoch=3",
    )
    assert message == (
        "8 mistakes in the configuration: "
        "objective.a.temperature: input should be a valid number, unable to parse string as a number, got 'hot' "
        "objective.a.temprature: unknown key; did you mean 'temperature'? "
        "objective.b.term: module mine: unknown class 'ChannelWize'; did you mean 'ChannelWise'? (known: ChannelWise) "
        "objective.c: unknown term 'mine.ChannelWise' (known: cross_entropy, soft_targets, explanation, "
        "attention_transfer; or set `term:` to one of these or to package.module:Class) "
        "objective.d.size: field required "
        "objective.soft_targets.temperture: unknown key; did you mean 'temperature'? "
        "optimizer.lr: input should be greater than 0, got -1 "
        "trainer.max_epoch: unknown key 'max_epoch'; did you mean 'max_epochs'?"
    )


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ("nowhere:X", "objective.x.term: module nowhere cannot be imported: ModuleNotFoundError: No module named "),
        ("broken:X", "objective.x.term: module broken cannot be imported: ModuleNotFoundError: No module named "),
        ("leaving:X", "objective.x.term: module leaving cannot be imported: SystemExit: 3. It must be installed or "),
        (
            "terms:NoModule",
            "objective.x.term: terms:NoModule must be a subclass of torch.nn.Module, got a class NoModule.",
        ),
        ("terms:function", "objective.x.term: terms:function must be a subclass of torch.nn.Module, got a function."),
        ("terms:Norm", "objective.x.size: field required"),
        ("mine:ChannelWise", "objective.x needs a teacher: add teacher.checkpoint, or set its weight to 0"),
    ],
)
def test_a_term_that_cannot_be_used(refused: Any, term: str, message: str) -> None:
    assert refused(f"objective.x.term={term}").startswith(f"a mistake in the configuration: {message}")


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (
            "{term: 'terms:PerSample'}",
            "objective.x: PerSample.forward must return a floating-point scalar tensor, got ",
        ),
        (
            "{term: 'terms:Number'}",
            "objective.x: Number.forward must return a floating-point scalar tensor, got float.",
        ),
        (
            "{term: 'terms:Count'}",
            "objective.x: Count.forward must return a floating-point scalar tensor, got torch.int",
        ),
        (
            "{term: 'terms:ForgottenTeacher'}",
            "objective.x: ForgottenTeacher failed on two images with AttributeError: 'NoneType' object has no "
            "attribute 'logits' (",
        ),
        (
            "{term: 'terms:WrongShape', layers: [final, group2]}",
            "objective.x: WrongShape failed on two images with Runt",
        ),
        ("{term: 'terms:Picky', temperature: -1}", "objective.x: terms:Picky(temperature=-1.0): ValueError: `tempera"),
        (
            "{term: 'mine:ChannelWise', layer: group9}",
            "student: `layer` must be one of group1, group2, final, group1_s",
        ),
        ("{term: 'mine:ChannelWise', teacher_layer: group9}", "teacher: `layer` must be one of group1, group2, final,"),
    ],
)
def test_a_term_that_fails(refused: Any, teacher: Path, term: str, message: str) -> None:
    assert refused(f"teacher.checkpoint={teacher}", f"objective.x={term}").startswith(message)


def test_a_failure_says_what_the_class_declares(refused: Any, teacher: Path) -> None:
    message = refused(f"teacher.checkpoint={teacher}", "objective.x.term=terms:ForgottenTeacher")
    assert re.search(
        r"terms\.py, line \d+\)\. It got logits \(student \(2, 10\), no teacher\)\. The class declares "
        r"needs_teacher=False, needs_activations=False, needs_maps=None\.$",
        message,
    )


@pytest.mark.parametrize("command", ["train", "cache"])
def test_a_cache_is_refused_for_activations(distill: Command, folder: Path, teacher: Path, command: str) -> None:
    pairs = (*SMALL, *QUIET, f"teacher={{checkpoint: {teacher}, cache: disk}}")
    said = distill(command, TINY, "channels.yaml", *pairs)
    assert said.code == 2
    assert said.message.endswith(
        "distill: teacher.cache: objective.channels needs the teacher's activations, which the cache does not store; "
        "set teacher.cache=off."
    )
    assert not (folder / "runs").exists()


def test_a_term_without_a_teacher_trains(distill: Command, folder: Path) -> None:
    assert (
        distill("train", TINY, *SMALL, *QUIET, "objective={cross_entropy: null, c: {term: 'terms:Confidence'}}").code
        == 0
    )
    (value,) = values(folder / "runs" / "tiny", "train/c")
    assert 0.1 <= value <= 1


def test_nothing_but_training_imports_the_class(
    distill: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = folder / "runs" / "teacher"
    assert distill("train", TINY, *SMALL, *QUIET, "name=teacher").code == 0
    here = ("train", TINY, "channels.yaml", *SMALL, *QUIET, f"teacher.checkpoint={teacher}")
    assert distill(*here).code == 0
    run = folder / "runs" / "tiny"
    assert "term: mine:ChannelWise" in (run / "config.yaml").read_text()
    (folder / "mine.py").write_text(f"raise AssertionError({RECORDED!r})\n")
    forget(monkeypatch)
    assert load([run / "config.yaml"]).objective["channels"].term == "mine:ChannelWise"
    assert load_model(run).classes
    image = folder / "image.png"
    write_image(image)
    quick = ("--perturbed", "0", "--explained", "0", "--no-sanity", "--limit", "8", "--gallery", "0")
    for command in (
        ("evaluate", run, f"--reference={teacher}", *quick),
        ("report", run),
        ("explain", run, image),
        ("export", run, "--format", "pt2", "--limit", "4"),
        ("train", TINY, *SMALL, *QUIET, f"teacher.checkpoint={run}", "objective.soft_targets.weight=1", "name=next"),
    ):
        said = distill(*command)
        assert said.code == 0, said.err
        assert "mine" not in sys.modules
    said = distill(*here)
    assert said.code == 2
    assert said.message.startswith(
        f"distill: a mistake in the configuration: objective.channels.term: module mine cannot be imported: "
        f"AssertionError: {RECORDED}"
    )


def write_image(path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (16, 16), (100, 50, 20)).save(path)


def test_terms_are_listed_with_the_way_to_add_one(distill: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_TERMS", dict(registry._TERMS))
    register_term("norm_of_layers", own_terms.Norm)
    said = distill("list", "terms")
    (line,) = [line for line in said.out.splitlines() if line.startswith("norm_of_layers")]
    assert "Squared activations of the student alone, with options of several types." in line
    assert "layers: {'group1': 1.0, 'group2': 1.0}, teacher_layer: None, layout: auto, teacher_layout: auto, " in line
    assert "size: required, form: mean, share: 0.5" in line
    for text in ("package.module:Class", "`term: package.module:Class`", "register_term", "docs/terms.md"):
        assert text in " ".join(said.out.split())


def test_a_failure_in_a_training_step_is_one_message(distill: Command, folder: Path) -> None:
    result = distill("train", TINY, *SMALL, *QUIET, "objective.x.term=terms:FailsLater")
    assert result.code == 1
    assert "distill: objective.x: FailsLater failed on " in result.message
    assert "It got logits (student (" in result.message
