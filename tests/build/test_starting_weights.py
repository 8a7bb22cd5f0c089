"""`student.weights`: training starts from a file, which belongs to the identity of the run and is recorded."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from distill.build import Objects, build, run_identity
from distill.checksums import save_checked
from distill.errors import InputError, InputNote, InputWarning, RunError
from distill.models import StagedNetwork, create_model, load_model, load_starting_weights, save_model
from distill.workflows.replay import replay
from distill.workflows.train import train_config
from tests.training.helpers import CrashError, small

SCALING: dict[str, Any] = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}


def network(seed: int, num_classes: int = 10, **options: Any) -> StagedNetwork:
    torch.manual_seed(seed)
    return create_model("wrn_10_1", num_classes=num_classes, **options)


class CrashInEpoch(pl.Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            raise CrashError


def save_plain(path: Path, seed: int = 1, num_classes: int = 10) -> Path:
    torch.save({"model": network(seed, num_classes).network.state_dict()}, path)
    return path


def assert_equal(one: StagedNetwork, other: StagedNetwork, *, but: str = "none") -> None:
    expected = other.network.state_dict()
    for key, value in one.network.state_dict().items():
        assert torch.equal(value, expected[key]) != key.startswith(but), key


def test_training_starts_from_the_file_on_the_scale_of_the_data(tmp_path: Path) -> None:
    path = save_plain(tmp_path / "a.pth")
    with pytest.warns(InputNote, match=r"does not say how its images were normalised.*student.normalisation"):
        student = build(small(tmp_path, f"student.weights={path}")).module.student
    assert_equal(student, network(1))
    plain = build(small(tmp_path)).module.student
    assert torch.equal(student.normalise.mean, plain.normalise.mean)
    assert student.training


@pytest.mark.parametrize("given", [False, True])
def test_the_recorded_normalisation_is_taken_unless_one_is_given(tmp_path: Path, given: bool) -> None:
    save_model(network(1, **SCALING), tmp_path / "run")
    pairs = ["student.normalisation={mean: [0, 0, 0], std: [1, 1, 1]}"] if given else []
    student = build(small(tmp_path, f"student.weights={tmp_path / 'run'}", *pairs)).module.student
    assert_equal(student, network(1))
    expected = [0.0, 0.0, 0.0] if given else SCALING["mean"]
    assert torch.equal(student.normalise.mean.flatten(), torch.tensor(expected))


def test_another_class_count_is_refused_with_the_advice_and_loads_with_a_new_head(tmp_path: Path) -> None:
    path = save_plain(tmp_path / "a.pth", num_classes=1000)
    config = small(tmp_path, f"student.weights={path}")
    message = (
        r"student.weights: .* has 1000 classes, but wrn_10_1 has 10: .*\(1000, 64\), expected \(10, 64\).*Set `stu"
    )
    with pytest.raises(InputError, match=message):
        build(config)
    assert not config.directory.exists()
    replaced = small(tmp_path, f"student.weights={path}", "student.head=replace")
    with pytest.warns(InputNote, match=r"fc starts anew for 10 classes \(the file has 1000\)"):
        student = build(replaced).module.student
    fresh = build(small(tmp_path)).module.student.network.state_dict()
    own = student.network.state_dict()
    assert torch.equal(own["fc.weight"], fresh["fc.weight"])
    assert torch.equal(own["conv1.weight"], network(1, 1000).network.state_dict()["conv1.weight"])


def test_freezing_and_objects_go_together_with_weights(tmp_path: Path) -> None:
    own = network(2)
    load_starting_weights(own, save_plain(tmp_path / "a.pth"), key="model")
    assert_equal(own, network(1))
    path = save_plain(tmp_path / "b.pth", seed=3)
    student = build(small(tmp_path, f"student.weights={path}", "student.freeze=[conv1]")).module.student
    assert not student.network.conv1.weight.requires_grad  # type: ignore[union-attr]
    assert_equal(student, network(3))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["student.weights=DEFAULT"], r"student.weights: 'DEFAULT' is not a path; write `./DEFAULT`"),
        (["student.weights=true"], r"student.weights: True is not a path"),
        (["student.weights=DEFAULT", "student.head=replace"], r"student.head: it belongs to a path in student.weights"),
        (["student.weights=no/file.pth"], r"student.weights: no checkpoint at no/file.pth"),
        (["student.head=replace"], r"student: .*head belongs to student.weights"),
        (["student.weights_key=ema"], r"student: .*weights_key belongs to student.weights"),
    ],
)
def test_wrong_keys_are_refused(tmp_path: Path, pairs: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(small(tmp_path, *pairs))


def test_a_record_of_another_network_is_refused_and_imports_nothing(tmp_path: Path) -> None:
    folder = save_model(network(1), tmp_path / "run").parent
    record = json.loads((folder / "student.json").read_text())
    del record["checksum"]
    save_checked({**record, "name": "evil_module:run"}, folder / "student.json")
    with pytest.raises(InputError, match="holds a evil_module:run, but the student is a wrn_10_1"):
        build(small(tmp_path, f"student.weights={folder}"))


def test_other_class_names_are_said(tmp_path: Path) -> None:
    folder = save_model(network(1, classes=[f"c{i}" for i in range(10)]), tmp_path / "run").parent
    with pytest.warns(InputWarning, match=r"was trained on other classes: class 0 is 'c0' and .*student.head=replace"):
        build(small(tmp_path, f"student.weights={folder}"))


def test_the_content_is_part_of_the_identity_and_the_path_is_not(tmp_path: Path) -> None:
    first, copy, other = (tmp_path / f"{name}.pth" for name in "abc")
    save_plain(first)
    copy.write_bytes(first.read_bytes())
    save_plain(other, seed=2)
    found = [run_identity(small(tmp_path, f"student.weights={path}")) for path in (first, copy, other)]
    assert found[0] == found[1]
    assert len({*found, run_identity(small(tmp_path))}) == 3
    replaced = run_identity(small(tmp_path, f"student.weights={first}", "student.head=replace"))
    assert replaced not in found


def test_a_run_records_its_start_and_resumes_without_the_file(tmp_path: Path) -> None:
    path = save_plain(tmp_path / "a.pth")
    config = small(tmp_path, f"student.weights={path}", "student.normalisation={mean: [0, 0, 0], std: [1, 1, 1]}")
    whole = train_config(config.model_copy(update={"name": "whole"}))
    record = json.loads((whole.directory / "environment.json").read_text())["starting_weights"]
    assert record["file"] == str(path)
    assert len(record["sha256"]) == 64
    with pytest.raises(CrashError):
        train_config(config, Objects(callbacks=(CrashInEpoch(2),)))
    path.unlink()
    assert train_config(config.model_copy(update={"name": "whole"})).action == "done"
    with pytest.raises(InputError, match=r"student.weights: no checkpoint at"):
        train_config(config, overwrite=True)
    with pytest.raises(InputError, match=r"student.weights: no checkpoint at"):
        train_config(config.model_copy(update={"name": "not started"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputNote)
        resumed = train_config(config)
    assert resumed.action == "resume"
    assert_equal(load_model(resumed.directory), load_model(whole.directory))


def test_a_failed_step_is_repeated_without_the_file(tmp_path: Path) -> None:
    path = save_plain(tmp_path / "a.pth")
    config = small(tmp_path, f"student.weights={path}", "optimizer.lr=1e20")
    with pytest.raises(RunError):
        train_config(config)
    path.unlink()
    repeated = replay(config.directory / "failed_step.ckpt").repeated
    assert repeated is not None
    assert repeated.cause
