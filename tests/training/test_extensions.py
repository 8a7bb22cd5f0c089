"""Frozen parameters, early stopping, loggers and callbacks by name."""

from __future__ import annotations

import inspect
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning import loggers
from pytorch_lightning.callbacks import Callback, EarlyStopping

from distill.build import build
from distill.errors import InputError
from distill.training import RunDirectory
from distill.training.extensions import LOGGERS, check_extensions, make_callbacks, make_loggers
from tests.training.helpers import checkpoint, rows, small, train

HERE = "tests.training.test_extensions"


class Counter(Callback):
    """Counts epochs."""

    epochs = 0

    def __init__(self, start: int = 0) -> None:
        Counter.epochs = start

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        Counter.epochs += 1


def test_frozen_parameters_and_statistics_do_not_change(tmp_path: Path) -> None:
    config = small(tmp_path, "student.freeze=['conv1', 'block1', '*.bn2.*']", "checkpoint.every_n_steps=1")
    before = {name: value.clone() for name, value in build(config).module.state_dict().items()}
    train(config)
    after = checkpoint(config.directory / "checkpoints" / "last.ckpt")["state_dict"]
    prefix = "student.network."
    for name, value in before.items():
        if not name.startswith(prefix) or name.endswith("num_batches_tracked"):
            continue
        short = name.removeprefix(prefix)
        frozen = short.startswith(("conv1", "block1")) or ".bn2." in short
        assert torch.equal(value, after[name]) == frozen, name


def test_a_pattern_that_matches_nothing_is_named(tmp_path: Path) -> None:
    message = r"^student.freeze: no parameter matches 'blok1'\. Did you mean 'block1'"
    with pytest.raises(InputError, match=message):
        build(small(tmp_path, "student.freeze=[blok1]"))
    with pytest.raises(InputError, match="the student has no trainable parameters"):
        build(small(tmp_path, "student.freeze=['*']"))
    assert not list(tmp_path.iterdir())


def test_training_stops_early_and_the_run_is_finished(tmp_path: Path) -> None:
    config = small(
        tmp_path, "trainer.max_epochs=9", "optimizer.lr=1e-9", "early_stopping={patience: 2, min_delta: 0.5}"
    )
    run = train(config)
    assert (
        len([row for row in rows(config) if row["validation/accuracy"]]) == 3
    )  # the first, and two without an improvement
    assert RunDirectory(config.directory).state(run.identity) == "done"


def test_callbacks_are_imported_with_their_arguments(tmp_path: Path) -> None:
    entry = f"{{name: '{HERE}:Counter', start: 10}}"
    train(small(tmp_path, f"callbacks=[{entry}]"))
    assert Counter.epochs == 13
    plain, early = make_callbacks(small(tmp_path, f"callbacks=['{HERE}:Counter']", "early_stopping.patience=4"))[::-1]
    assert isinstance(plain, Counter)
    assert isinstance(early, EarlyStopping)
    assert (early.monitor, early.mode, early.patience) == ("validation/accuracy", "max", 4)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("callbacks=[Counter]", r"^callbacks\[0\]: expected package.module:Class, .* got 'Counter'"),
        (f"callbacks=['{HERE}:Contour']", r"^callbacks\[0\]: module .*: unknown class 'Contour'"),
        ("callbacks=['torch.nn:Linear']", r"must be a subclass of pytorch_lightning.Callback"),
        (f"callbacks=[{{name: '{HERE}:Counter', begin: 3}}]", r"Counter: .*'begin' \(known: start\)"),
        ("early_stopping={patience: 2, min_dleta: 1}", "^early_stopping: EarlyStopping: .*'min_dleta'"),
    ],
)
def test_what_does_not_exist_is_told_before_anything_is_written(tmp_path: Path, pair: str, message: str) -> None:
    config = small(tmp_path, pair)
    with pytest.raises(InputError, match=message):
        build(config)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["wandb", "mlflow", "comet", "neptune"])
def test_a_missing_package_is_named(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, module, package = LOGGERS[name]
    monkeypatch.setattr(f"pytorch_lightning.loggers.{kind}", object, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == module else ModuleSpec(name, None))
    with pytest.raises(InputError, match=rf"^loggers.{name} needs the package {package}: pip install {package}$"):
        check_extensions(small(tmp_path, f"loggers.{name}=true"))


def test_a_logger_that_lightning_does_not_have_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("pytorch_lightning.loggers.NeptuneLogger", raising=False)
    with pytest.raises(InputError, match=r"^loggers.neptune: pytorch-lightning 2\..* has no NeptuneLogger\.$"):
        check_extensions(small(tmp_path, "loggers.neptune=true"))


#: Keywords that each logger gets without a section of its own, by the parameter of Lightning's class.
KEYWORDS = {
    "wandb": {"save_dir": ".", "name": "mine"},
    "mlflow": {"save_dir": "mlruns", "run_name": "mine"},
    "comet": {"offline_directory": ".", "name": "mine"},
    "neptune": {"save_dir": ".", "name": "mine"},
}
PARAMETERS = {
    name: inspect.signature(getattr(loggers, LOGGERS[name][0], dict)) for name in KEYWORDS if name != "neptune"
}


@pytest.mark.parametrize("name", KEYWORDS)
def test_each_logger_gets_the_name_and_folder_of_the_run(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a class in place of Lightning's, so that no package is needed."""
    seen: dict[str, Any] = {}

    class Logger:
        experiment = None

        def __init__(self, **keywords: Any) -> None:
            seen.update(keywords)

    monkeypatch.setattr(f"pytorch_lightning.loggers.{LOGGERS[name][0]}", Logger, raising=False)
    config = small(tmp_path, "name=mine", "loggers.tensorboard=false", f"loggers.{name}={{project: demo}}")
    assert len(make_loggers(config, RunDirectory(config.directory))) == 1
    expected = {key: str(config.directory / value) if "dir" in key else value for key, value in KEYWORDS[name].items()}
    assert {key: str(value) for key, value in seen.items()} == {**expected, "project": "demo"}
    if name in PARAMETERS:
        parameters = PARAMETERS[name].parameters
        own = set(KEYWORDS[name]) - set(parameters)
        assert own <= (
            {"name", "offline_directory"} if name == "comet" else set()
        )  # comet_ml.ExperimentConfig has them
        PARAMETERS[name].bind_partial(**expected)


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("wandb", "{project: demo, mode: offlin}"),
        ("wandb", "{project: demo, offline: true, entitty: me}"),
        ("mlflow", "{tracking_uri: 'nothing://here'}"),
        ("comet", "{online: false, offline_directry: here}"),
    ],
)
def test_what_a_logger_refuses_is_one_message_before_training(tmp_path: Path, name: str, section: str) -> None:
    pytest.importorskip(LOGGERS[name][1])
    config = small(tmp_path, f"loggers.{name}={section}")
    with pytest.raises(InputError, match=rf"^loggers\.{name}: {LOGGERS[name][0]}"):
        train(config)
    assert not RunDirectory(config.directory).has_started


def test_wandb_logs_each_run_to_its_own_folder_without_a_connection(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    for name in ("first", "second"):
        pairs = ("loggers.wandb={offline: true, project: demo}", "trainer.max_epochs=1", f"name={name}")
        config = small(tmp_path, *pairs)
        train(config)
        assert len(list((config.directory / "wandb").glob("offline-run-*/*.wandb"))) == 1


def test_mlflow_logs_all_metrics_to_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    config = small(tmp_path, "loggers.mlflow=true", "trainer.max_epochs=2")
    train(config)
    (folder,) = (config.directory / "mlruns").glob("*/*/metrics")
    logged = [line.split() for line in (folder / "train" / "loss").read_text().splitlines()]
    expected = [(row["train/loss"], row["step"]) for row in rows(config) if row["train/loss"]]
    assert [(float(value), int(step)) for _, value, step in logged] == [(float(v), int(s)) for v, s in expected]
    assert "mine" not in (folder.parent / "meta.yaml").read_text()
    assert "run_name: run" in (folder.parent / "meta.yaml").read_text()


def test_comet_runs_without_a_connection(tmp_path: Path) -> None:
    pytest.importorskip("comet_ml")
    config = small(tmp_path, "loggers.comet={online: false, project: demo}", "trainer.max_epochs=1")
    assert RunDirectory(config.directory).state(train(config).identity) == "done"


def test_several_loggers_at_once(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    pytest.importorskip("mlflow")
    pairs = ["loggers.tensorboard=true", "loggers.wandb={offline: true, project: demo}", "loggers.mlflow=true"]
    config = small(tmp_path, *pairs, "trainer.max_epochs=1")
    train(config)
    assert (config.directory / "tensorboard").is_dir()
    assert list((config.directory / "wandb").glob("offline-run-*"))
    assert (config.directory / "mlruns").is_dir()
    assert len(rows(config)) == 2
