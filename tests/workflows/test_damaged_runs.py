"""Files of a run that were changed after it was trained are refused by every command, and name themselves."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.build import load_config
from distill.checksums import CHECKSUM, save_checked
from distill.cli.report import run as report
from distill.errors import InputError, InputWarning
from distill.evaluation import ONE_PASS
from distill.models.damage import add_checksum
from distill.report import read_curves
from distill.workflows.evaluate import evaluate
from distill.workflows.explain import explain_images
from distill.workflows.export import export_model
from distill.workflows.run import selected_metrics
from distill.workflows.train import train, train_config
from tests.fuzz.mutations import damage

COMMANDS: dict[str, Callable[[Path], object]] = {
    "evaluate": lambda run: evaluate(run, settings=ONE_PASS, gallery=0, limit=4, device="cpu"),
    "explain": lambda run: explain_images(run, [np.zeros((16, 16, 3), np.uint8)]),
    "export": lambda run: export_model(run, format="pt2", limit=4, overwrite=True),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    done = train(
        student="wrn_10_1",
        data={"size": 16, "count": 20, "batch_size": 10},
        epochs=1,
        output_dir=str(tmp_path_factory.mktemp("runs")),
        trainer={"enable_progress_bar": False, "precision": "32-true", "accelerator": "cpu"},
        loggers={"tensorboard": False},
    )
    COMMANDS["evaluate"](done.directory)
    return done.directory


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_changed_configuration_is_refused(run: Path, command: str) -> None:
    change(run / "config.yaml", "seed: 0", "seed: 1")
    with pytest.raises(InputError, match=rf"{run}/config\.yaml was changed after the run was started"):
        COMMANDS[command](run)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_damaged_environment_is_refused(run: Path, command: str) -> None:
    change(run / "environment.json", '"identity": "', '"identity": "0')
    with pytest.raises(InputError, match=rf"{run}/environment\.json cannot be read"):
        COMMANDS[command](run)


def test_a_comment_in_the_configuration_changes_nothing(run: Path) -> None:
    path = run / "config.yaml"
    path.write_text("# my best run\n" + path.read_text())
    COMMANDS["explain"](run)


@pytest.mark.parametrize("command", COMMANDS)
def test_runs_of_older_versions_without_checksums_are_read(run: Path, command: str) -> None:
    for name, keys in (("environment.json", ("config", "metrics", CHECKSUM)), ("student.json", ("sha256", CHECKSUM))):
        record = json.loads((run / name).read_text())
        for key in keys:
            del record[key]
        (run / name).write_text(json.dumps(record))
    COMMANDS[command](run)
    report(run)


def test_changed_metrics_are_noticed(run: Path) -> None:
    path = run / "metrics.csv"
    content = path.read_text()
    path.write_text(content.replace(".", ".1", 1))
    with pytest.raises(InputError, match=rf"^{path} was changed or damaged after the run was finished\."):
        read_curves(run, run="a")


@pytest.mark.parametrize("kind", ["truncated", "bits flipped", "deleted", "empty"])
@pytest.mark.parametrize("use", ["evaluate", "report", "metrics", "train"])
def test_damaged_metrics_of_a_finished_run_are_rebuilt(trained: Path, use: str, kind: str) -> None:
    path = trained / "metrics.csv"
    whole = path.read_bytes()
    damage(path, kind, random.Random(1))
    message = f"{path} is missing, incomplete or damaged; it is rebuilt from last.ckpt."
    config = load_config([trained / "config.yaml"])
    try:
        if use == "train":
            messages: list[str] = []
            assert train_config(config, notify=messages.append).action == "done"
            assert messages == [message]
        else:
            with pytest.warns(InputWarning, match=re.escape(message)):
                {"report": report, "metrics": lambda run: selected_metrics(config), **COMMANDS}[use](trained)
        assert path.read_bytes() == whole
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("found", ["other", "none"])
def test_metrics_are_not_rebuilt_from_a_checkpoint_that_does_not_fit(run: Path, found: str) -> None:
    (run / "metrics.csv").unlink()
    for path in (run / "checkpoints").glob("*.ckpt"):
        if found == "none":
            path.unlink()
        else:
            content = torch.load(path, weights_only=True)
            torch.save(add_checksum(content | {"metrics_csv": "epoch,step\r\n0,1\r\n"}), path)
    with pytest.raises(InputError, match=rf"^{run}/metrics\.csv: no such file"):
        COMMANDS["evaluate"](run)
    assert not (run / "metrics.csv").exists()


@pytest.mark.parametrize(
    ("cell", "message"),
    [("7.5", "validation/accuracy is from 0 to 1, got 7.5"), ("x", "could not"), ("1,2", "too many or too few")],
)
def test_a_cell_that_cannot_be_is_refused_without_a_checksum(tmp_path: Path, cell: str, message: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(f"epoch,step,validation/accuracy\n0,4,{cell}\n")
    with pytest.raises(InputError, match=rf"^{path}, line 2: .*{message}"):
        read_curves(path, run="a")
    path.write_text("epoch,step,validation/accuracy\n0,4,0.51")
    assert read_curves(path, run="a").series == {}  # the end of the line is missing, and possibly of the number


def test_a_changed_digit_of_an_evaluation_is_noticed(run: Path) -> None:
    change(run / "evaluation.json", '"value": 0.', '"value": 0.1')
    with pytest.raises(InputError, match=rf"^{run}/evaluation\.json was changed or damaged .* Run `distill evaluate`"):
        report(run)


@pytest.mark.parametrize("value", ["0.99", 7.5, True])
def test_a_figure_that_nobody_computed_is_refused(run: Path, value: object) -> None:
    path = run / "evaluation.json"
    record = json.loads(path.read_text())
    del record[CHECKSUM]
    next(iter(next(iter(record["sets"].values()))["networks"].values()))["figures"]["accuracy"]["value"] = value
    save_checked(record, path)
    with pytest.raises(InputError, match=rf"^{path}: .*run `distill evaluate` again"):
        report(run)


def test_scores_that_do_not_belong_to_the_evaluation_are_noticed(run: Path) -> None:
    with (run / "per_image.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=rf"^{run}/per_image\.parquet is not the file of evaluation\.json"):
        report(run)
