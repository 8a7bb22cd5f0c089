"""A run directory: when a run starts, resumes or is replaced, and which files it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.config import Config, load, to_yaml
from distill.errors import InputError
from distill.models import load_model
from distill.training import RunDirectory
from distill.workflows.train import train_config
from tests.training.helpers import CrashError, crash_at, small
from tests.training.helpers import train as train_with


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return small(tmp_path, "trainer.max_epochs=1", "data.count={train: 32, validation: 16}", "name=here")


def other(config: Config, **changes: object) -> Config:
    return config.model_copy(update=changes)


def test_a_run_and_its_repetition(config: Config) -> None:
    run = train_config(config)
    assert (run.directory, run.action) == (config.directory, "new")
    before = contents(config.directory)
    assert set(before) == {
        "config.yaml",
        "environment.json",
        "metrics.csv",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        "student.safetensors",
        "student.json",
        ".lock",
    }
    run = train_config(config)
    assert (run.directory, run.action) == (config.directory, "done")
    assert contents(config.directory) == before


def test_the_configuration_and_the_environment_are_written(config: Config) -> None:
    train_config(config)
    assert load([config.directory / "config.yaml"]) == config
    environment = json.loads((config.directory / "environment.json").read_text())
    assert (environment["seed"], environment["data_seed"]) == (0, 0)
    assert set(environment) == {
        *("identity", "seed", "data_seed", "command", "python", "platform", "cpu", "cpu_count", "threads", "device"),
        *("commit", "packages", "config", "metrics", "checksum", "data_wait"),
    }
    assert environment["packages"]["torch"].startswith("2.")


def test_tensorboard_is_written_if_enabled(config: Config) -> None:
    train_config(other(config, loggers=config.loggers.model_copy(update={"tensorboard": True})))
    assert [path.name.split(".")[0] for path in (config.directory / "tensorboard").glob("events*")] == ["events"]


def test_a_run_with_another_configuration_is_rejected(config: Config) -> None:
    train_config(config)
    before = contents(config.directory)
    with pytest.raises(InputError, match=r"here contains a run with another configuration .* with --overwrite\.$"):
        train_config(other(config, seed=1))
    assert contents(config.directory) == before
    assert train_config(other(config, seed=1), overwrite=True).action == "new"
    after = contents(config.directory)
    assert set(after) == set(before)
    assert after["student.safetensors"] != before["student.safetensors"]
    assert load([config.directory / "config.yaml"]).seed == 1


def test_a_folder_that_is_not_a_run_is_never_changed(config: Config) -> None:
    config.directory.mkdir(parents=True)
    (config.directory / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(
            InputError, match=r"here is not empty and does not contain a run. Choose another `name=` or"
        ):
            train_config(config, overwrite=overwrite)
    assert contents(config.directory) == {"thesis.txt": b"years of work"}


def test_a_file_at_the_path_is_rejected(config: Config) -> None:
    config.directory.parent.mkdir(parents=True, exist_ok=True)
    config.directory.write_text("a file")
    with pytest.raises(InputError, match="here"):
        train_config(config)
    assert config.directory.read_text() == "a file"


def test_an_empty_directory_is_used(config: Config) -> None:
    config.directory.mkdir(parents=True)
    assert train_config(config).action == "new"


def test_an_unreadable_environment_file_is_reported(config: Config) -> None:
    train_config(config)
    for text in ("{", "[]", "{}"):
        (config.directory / "environment.json").write_text(text)
        before = contents(config.directory)
        with pytest.raises(InputError, match=r"environment\.json .* --overwrite"):
            train_config(config)
        assert contents(config.directory) == before
    assert train_config(config, overwrite=True).action == "new"


def test_a_run_without_a_checkpoint_starts_over(config: Config) -> None:
    with pytest.raises(CrashError):
        train_with(config, before_step=crash_at(1))
    assert not RunDirectory(config.directory).last.exists()
    assert train_config(config).action == "new"
    assert len((config.directory / "metrics.csv").read_text().splitlines()) == 3


def test_a_run_that_failed_before_its_first_checkpoint_blocks_no_other(config: Config) -> None:
    with pytest.raises(CrashError):
        train_with(config, before_step=crash_at(0))
    assert (config.directory / "environment.json").exists()
    longer = other(config, seed=1, trainer={**config.trainer, "max_epochs": 2})
    assert train_config(longer).action == "new"
    assert load([config.directory / "config.yaml"]) == longer


def test_a_folder_with_other_files_beside_a_failed_run_is_never_changed(config: Config) -> None:
    with pytest.raises(CrashError):
        train_with(config, before_step=crash_at(0))
    (config.directory / "thesis.txt").write_text("years of work")
    before = contents(config.directory)
    with pytest.raises(InputError, match="contains a run with another configuration"):
        train_config(other(config, seed=1))
    assert contents(config.directory) == before


def test_nothing_is_written_before_the_trial_step_has_passed(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[list[str]] = []

    def fail(*_: object) -> None:
        written.append([str(path) for path in tmp_path.rglob("*")])
        raise InputError("the trial step failed")

    monkeypatch.setattr("distill.build.training_run.check_step", fail)
    with pytest.raises(InputError, match="the trial step failed"):
        train_config(config)
    assert written == [[]]
    assert list(tmp_path.rglob("*")) == []


def test_a_run_killed_while_opening_its_directory_starts_over(config: Config) -> None:
    config.directory.mkdir(parents=True)
    (config.directory / "environment.json.part").write_text("{")
    assert train_config(config).action == "new"
    assert not (config.directory / "environment.json.part").exists()


def test_a_run_killed_while_saving_its_weights_resumes(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: object) -> None:
        raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr("distill.models.weights.replacing", cut)
        with pytest.raises(CrashError):
            train_config(config)
    assert (config.directory / "student.json").exists()
    assert train_config(config).action == "resume"
    assert load_model(config.directory).spec.name == config.student.name


@pytest.mark.parametrize("survivors", range(4))
def test_a_run_killed_while_deleting_the_old_run_can_be_repeated(
    config: Config, survivors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_config(config)
    unlink, left = Path.unlink, [survivors]

    def cut(path: Path, missing_ok: bool = False) -> None:
        if path.parent == config.directory:
            if not left[0]:
                raise CrashError
            left[0] -= 1
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", cut)
        with pytest.raises(CrashError):
            train_config(other(config, seed=1), overwrite=True)
    assert train_config(other(config, seed=1), overwrite=True).action == "new"


def test_a_stopped_run_resumes(config: Config) -> None:
    longer = other(config, trainer={**config.trainer, "max_epochs": 2})
    with pytest.raises(CrashError):
        train_with(longer, before_step=crash_at(3))
    assert train_config(longer).action == "resume"
    assert train_config(longer).action == "done"


@pytest.mark.parametrize(
    "changes",
    [
        {"trainer": {"max_epochs": 1, "accelerator": "tpu"}},
        {"trainer": {"max_epochs": 1, "accelerator": "cpu", "precision": "33"}},
        {"trainer": {"max_epochs": 1, "accelerator": "cpu", "devices": 0}},
    ],
)
def test_invalid_trainer_settings_are_reported_before_the_old_run_is_replaced(
    config: Config, changes: dict[str, object]
) -> None:
    train_config(config)
    before = contents(config.directory)
    with pytest.raises(InputError, match="trainer"):
        train_config(other(config, **changes), overwrite=True)
    assert contents(config.directory) == before


def test_a_batch_larger_than_the_data_is_reported_before_the_old_run_is_replaced(config: Config) -> None:
    train_config(config)
    before = contents(config.directory)
    larger = other(config, data=config.data.model_copy(update={"batch_size": 33}))
    with pytest.raises(InputError, match=r"`batch_size` is 33, but there are only 32 training images"):
        train_config(larger, overwrite=True)
    assert contents(config.directory) == before


def test_invalid_augmentation_is_reported_before_the_old_run_is_replaced(config: Config) -> None:
    train_config(config)
    before = contents(config.directory)
    augment = config.data.augment.model_copy(update={"pad": 16, "padding": "reflect"})
    message = r"^`pad` must be smaller than the image if `padding` is reflect, got 16 for 16 x 16\.$"
    with pytest.raises(InputError, match=message):
        train_config(other(config, data=config.data.model_copy(update={"augment": augment})), overwrite=True)
    assert contents(config.directory) == before


def test_an_unknown_monitored_metric_is_reported(config: Config) -> None:
    wrong = other(config, monitor=config.monitor.model_copy(update={"metric": "validation/acuracy"}))
    with pytest.raises(InputError, match=r"monitor\.metric.*'validation/acuracy'.*validation/accuracy"):
        train_config(wrong)
    assert not config.directory.exists()


def test_the_written_configuration_has_the_same_identity(config: Config) -> None:
    train_config(config)
    again = load([config.directory / "config.yaml"])
    assert to_yaml(again) == (config.directory / "config.yaml").read_text()
    assert train_config(again).action == "done"
