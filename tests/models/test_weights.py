"""Saving and loading weights, and loading checkpoints of other projects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from distill.checksums import hash_values
from distill.models import (
    StagedNetwork,
    create_model,
    load_model,
    load_network,
    save_model,
)
from distill.models.weights import file_hash

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(5))
SCALING: dict[str, Any] = {"mean": [0.07, 0.2, 0.3], "std": [0.3, 0.1, 0.05]}
PLAIN: dict[str, Any] = {"name": "wrn_10_1", "num_classes": 3, "normalisation": SCALING}


@pytest.fixture
def net() -> StagedNetwork:
    torch.manual_seed(1)
    made = create_model("wrn_10_1", num_classes=3, classes=("a", "b", "c"), dropout=0.25, **SCALING)
    made.train()(IMAGES)  # so that the running statistics are those of something
    return made.eval()


def load_plain(path: Path, **changes: Any) -> StagedNetwork:
    return load_network(path, **{**PLAIN, **changes}).eval()


@pytest.mark.parametrize("by", ["directory", "file"])
def test_what_was_saved_comes_back(net: StagedNetwork, tmp_path: Path, by: str) -> None:
    weights = save_model(net, tmp_path / "run")
    loaded = load_model(weights if by == "file" else tmp_path / "run")
    assert torch.equal(loaded(IMAGES), net(IMAGES))
    assert (loaded.spec, loaded.classes, loaded.training) == (net.spec, ("a", "b", "c"), False)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["student.json", "student.safetensors"]


@pytest.mark.parametrize("mean", [1 / 13, 0.0123456789, 0.4914, 1 / 3])
def test_the_input_scaling_comes_back_to_the_last_bit(tmp_path: Path, mean: float) -> None:
    net = create_model("wrn_10_1", num_classes=2, mean=[mean] * 3, std=[mean * 1.7] * 3)
    save_model(net, tmp_path)
    loaded = load_model(tmp_path)
    assert torch.equal(loaded.normalise.mean, net.normalise.mean)
    assert torch.equal(loaded.normalise.std, net.normalise.std)


def test_the_record_beside_the_weights(net: StagedNetwork, tmp_path: Path) -> None:
    save_model(net, tmp_path)
    record = json.loads((tmp_path / "student.json").read_text())
    assert record.pop("sha256") == file_hash(tmp_path)
    assert record.pop("checksum") == hash_values({**record, "sha256": file_hash(tmp_path)})
    assert record == {
        "format": 1,
        "name": "wrn_10_1",
        "num_classes": 3,
        "in_channels": 3,
        "options": {"dropout": 0.25},
        "classes": ["a", "b", "c"],
        "normalisation": SCALING,
    }
    state = safetensors.torch.load_file(tmp_path / "student.safetensors")
    assert set(state) == set(net.network.state_dict())


def test_a_hash_is_of_the_weights(net: StagedNetwork, tmp_path: Path) -> None:
    first = save_model(net, tmp_path / "a")
    save_model(net, tmp_path / "b")
    assert file_hash(first) == file_hash(tmp_path / "a") == file_hash(tmp_path / "b")
    with torch.no_grad():
        net.network.fc.bias.add_(1e-6)  # type: ignore[union-attr,operator]
    save_model(net, tmp_path / "b")
    assert file_hash(tmp_path / "b") != file_hash(first)


def nestings(state: dict[str, Tensor]) -> dict[str, Any]:
    parallel = {f"module.{key}": value for key, value in state.items()}
    return {
        "plain": state,
        "parallel": parallel,
        "model": {"epoch": 3, "model": state, "best_acc": 0.9},
        "state_dict": {"state_dict": parallel, "optimizer": {"lr": 0.1}},
        "compiled": {f"_orig_mod.{key}": value for key, value in state.items()},
        "both": {"net": {f"module._orig_mod.{key}": value for key, value in state.items()}},
        "old": {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")},
    }


@pytest.mark.parametrize("kind", list(nestings({})))
@pytest.mark.parametrize("suffix", ["pth", "pt"])
def test_foreign_checkpoints_load_as_they_are(net: StagedNetwork, tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"foreign.{suffix}"
    torch.save(nestings(net.network.state_dict())[kind], path)
    assert torch.equal(load_plain(path)(IMAGES), net(IMAGES))


def test_the_names_are_those_of_the_field(net: StagedNetwork) -> None:
    names = set(net.network.state_dict())
    published = {"conv1.weight", "block1.layer.0.bn1.weight", "block1.layer.0.conv1.weight", "bn1.bias", "fc.weight"}
    assert published | {"block2.layer.0.convShortcut.weight", "block3.layer.0.conv2.weight"} <= names
    assert "block1.layer.0.convShortcut.weight" not in names  # a width of 1 does not widen there


def test_a_safetensors_file_without_a_record_is_a_plain_state_dict(net: StagedNetwork, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(net.network.state_dict(), path)
    assert torch.equal(load_plain(path)(IMAGES), net(IMAGES))
