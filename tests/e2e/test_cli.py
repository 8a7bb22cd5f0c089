"""`distill train` and `distill list`: output, exit codes and files."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill.config import load
from distill.models import load_model
from distill.workflows.train import train
from tests.e2e.helpers import QUIET, SMALL, TINY, Command, environment

DISTILL = str(Path(sys.executable).with_name("distill"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["evaluate", "--help"], ["list", "--help"]])
def test_help_answers_in_under_a_second(arguments: list[str]) -> None:
    """Judged by the time of the processor, which depends little on what else the machine does."""

    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    taken = []
    for _ in range(3):
        start = spent()
        result = subprocess.run([DISTILL, *arguments], capture_output=True, text=True, check=True, env=environment())
        taken.append(spent() - start)
    assert "Usage: distill" in result.stdout
    assert min(taken) < 1


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys; sys.argv = ['distill', '--help']\n"
        "from distill.cli import main\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code\n"
        "print('IMPORTED', sorted({'torch', 'pytorch_lightning', 'torchvision', 'omegaconf'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "IMPORTED []"


def test_help_is_printed_without_arguments(distill: Command) -> None:
    result = distill()
    assert result.code == 2
    assert [name for name in ("Usage", "train", "evaluate", "list") if name not in result.out + result.err] == []


def test_train_repeat_and_overwrite(distill: Command, tmp_path: Path) -> None:
    here = ("train", TINY, *SMALL, *QUIET, f"output_dir={tmp_path}")
    run = tmp_path / "tiny"
    first = distill(*here)
    assert (first.code, first.message) == (0, f"tiny: trained; the student is in {run}")
    before = contents(run)
    again = distill(*here)
    assert (again.code, again.message) == (0, f"tiny: already done; the student is in {run}")
    other = distill(*here, "optimizer.lr=0.01")
    assert other.code == 2
    assert other.message == (
        f"distill: {run} contains a run with another configuration (see its config.yaml). Choose another `name=`, or "
        "replace that run with --overwrite."
    )
    assert contents(run) == before
    replaced = distill(*here, "optimizer.lr=0.01", "--overwrite")
    assert (replaced.code, replaced.message) == (0, f"tiny: trained; the student is in {run}")
    assert load([run / "config.yaml"]).optimizer.lr == 0.01
    assert load_model(run).classes[0] == "t-shirt/top"
    assert "distill train" in json.loads((run / "environment.json").read_text())["command"]


def test_a_dry_run_prints_the_configuration_and_writes_no_files(distill: Command, tmp_path: Path) -> None:
    result = distill("train", TINY, "--dry-run", "seed=3", f"output_dir={tmp_path / 'out'}")
    assert result.code == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(result.out)
    assert load([printed]) == load([TINY], ["seed=3", f"output_dir={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_a_dry_run_checks_the_configuration(distill: Command) -> None:
    assert distill("train", TINY, "--dry-run", "sed=3").code == 2


def test_a_student_with_a_teacher(distill: Command, tmp_path: Path) -> None:
    common = (TINY, *SMALL, *QUIET, f"output_dir={tmp_path}")
    assert distill("train", *common, "name=teacher").code == 0
    teach = (f"teacher.checkpoint={tmp_path / 'teacher'}", "objective={soft_targets: {}, explanation: {weight: 5}}")
    result = distill("train", *common, "name=student", *teach)
    assert result.code == 0
    header = (tmp_path / "student" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/soft_targets", "train/explanation", "train/explanation_weighted", "validation/agreement"} <= set(
        header
    )
    assert distill("train", *common, "name=student", *teach).message.startswith("student: already done; ")


OWN = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, width=4):
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)]
        super().__init__(nn.Conv2d(3, width, 3), nn.ReLU(inplace=True), *head)
"""


def test_a_network_defined_in_the_working_directory(
    distill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "network_of_mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    common = ("train", TINY, *SMALL, *QUIET, "student.name=network_of_mine:Net")
    assert distill(*common, "name=teacher", "student.width=6").code == 0
    explanation = "objective={cross_entropy: {}, explanation: {weight: 1}}"
    result = distill(*common, "name=student", "teacher.checkpoint=runs/teacher", explanation)
    assert (result.code, result.message) == (0, "student: trained; the student is in runs/student")
    assert json.loads((tmp_path / "runs" / "teacher" / "student.json").read_text())["options"] == {"width": 6}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("models", ["wrn_D_K", "resnet18", "resnet50", "package.module:callable", "group1, group2, final"]),
        ("datasets", ["fashion_scenes", "fashion_mnist", "cifar10", "cifar100", "image_folder", "background_bias"]),
        ("terms", ["cross_entropy", "soft_targets", "explanation", "temperature: 4.0", "method: auto"]),
        ("methods", ["cam", "grad_cam", "positive_grad_cam", "grad_cam_pp"]),
        ("metrics", ["accuracy"]),
        ("augmentations", ["RandAugment", "RandomErasing", "size: required, scale: (0.08, 1.0)"]),
    ],
)
def test_lists(distill: Command, kind: str, expected: list[str]) -> None:
    result = distill("list", kind)
    assert result.code == 0
    assert [name for name in expected if name not in result.out] == []


def test_an_unknown_list(distill: Command) -> None:
    result = distill("list", "modles")
    assert result.code == 2
    assert result.message == (
        "distill: unknown list 'modles'; did you mean 'models'? "
        "(known: augmentations, datasets, layers, methods, metrics, models, optimizers, schedules, terms)"
    )


LONG = ("data.size=16", "data.count={train: 1024, validation: 16}", "data.batch_size=16", "trainer.max_epochs=1")
STOPPABLE = ("train", TINY, *LONG, *QUIET, "student.dropout=0.2", "checkpoint.every_n_steps=4")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("straight")
    _, file, *pairs = STOPPABLE
    train(file, overrides=[*pairs, f"output_dir={folder}"])
    return contents(folder / "tiny")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_stopped_by_a_signal_resumes_to_the_same_result(
    distill: Command, tmp_path: Path, straight: dict[str, bytes], number: signal.Signals
) -> None:
    here = (*STOPPABLE, f"output_dir={tmp_path}")
    process = subprocess.Popen([DISTILL, *here], stderr=subprocess.PIPE, text=True, env=environment())
    last = tmp_path / "tiny" / "checkpoints" / "last.ckpt"
    while not last.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "run the same command again to resume." in err
    assert not (tmp_path / "tiny" / "student.safetensors").exists()
    again = distill(*here)
    assert again.code == 0, again.err
    assert "tiny: resumed and trained" in again.err
    resumed = contents(tmp_path / "tiny")
    for name in ("student.safetensors", "student.json", "metrics.csv"):
        assert resumed[name] == straight[name], name


def test_python_can_run_the_package() -> None:
    shown = subprocess.run([sys.executable, "-m", "distill", "--help"], capture_output=True, text=True, check=True)
    assert "Train a small network" in shown.stdout
