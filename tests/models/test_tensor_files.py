"""Sharded safetensors files: read beside their index only, checked before memory is taken."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import safetensors.torch
import torch

from distill.errors import InputError
from distill.models import create_model, file_hash, load_network
from distill.models.tensor_files import read_safetensors

INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
ABOUT: dict[str, Any] = {
    "name": "wrn_10_1",
    "num_classes": 3,
    "normalisation": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
}
STATE = create_model("wrn_10_1", num_classes=3).network.state_dict()


def save_shards(folder: Path) -> Path:
    names = list(STATE)
    parts = dict(zip(SHARDS, (names[::2], names[1::2]), strict=True))
    for shard, part in parts.items():
        safetensors.torch.save_file({name: STATE[name] for name in part}, folder / shard)
    return write_index(folder, {name: shard for shard, part in parts.items() for name in part})


def write_index(folder: Path, weight_map: Any) -> Path:
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return folder / INDEX


@pytest.mark.parametrize("by", ["index", "folder"])
def test_shards_are_one_state_dict(tmp_path: Path, by: str) -> None:
    index = save_shards(tmp_path)
    loaded = load_network(index if by == "index" else tmp_path, **ABOUT).network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in STATE.items())


def test_a_folder_with_one_unsharded_file(tmp_path: Path) -> None:
    safetensors.torch.save_file(STATE, tmp_path / "model.safetensors")
    assert torch.equal(load_network(tmp_path, **ABOUT).network.state_dict()["fc.bias"], STATE["fc.bias"])


def test_the_hash_is_of_the_shards(tmp_path: Path) -> None:
    index = save_shards(tmp_path)
    before = file_hash(index)
    shard = tmp_path / SHARDS[1]
    part = safetensors.torch.load_file(shard)
    safetensors.torch.save_file({name: value + 1 for name, value in part.items()}, shard)
    assert file_hash(tmp_path) == file_hash(index) != before


@pytest.mark.parametrize(
    "shard",
    ["../model.safetensors", "/etc/a.safetensors", "sub/a.safetensors", r"..\a.safetensors", "..", "a.bin", 3, ""],
)
def test_only_files_beside_the_index_are_read(tmp_path: Path, shard: Any) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    safetensors.torch.save_file(STATE, tmp_path / "model.safetensors")
    index = write_index(folder, dict.fromkeys(STATE, shard))
    with pytest.raises(InputError, match=r"is not the name of a .safetensors file beside the index"):
        load_network(index, **ABOUT)
    with pytest.raises(InputError, match="beside the index"):
        file_hash(index)


@pytest.mark.parametrize("weight_map", [None, {}, ["a"]])
def test_a_file_that_is_no_index(tmp_path: Path, weight_map: Any) -> None:
    with pytest.raises(InputError, match="is no index of a sharded safetensors file"):
        read_safetensors(write_index(tmp_path, weight_map))


def test_damaged_and_missing_shards(tmp_path: Path) -> None:
    index = save_shards(tmp_path)
    shard = tmp_path / SHARDS[1]
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(InputError, match=rf"{SHARDS[1]} is truncated or is not a safetensors file"):
        load_network(index, **ABOUT)
    safetensors.torch.save_file({"other": torch.zeros(1)}, shard)
    with pytest.raises(InputError, match=rf"{SHARDS[1]} lacks \d+ tensors that {INDEX} lists, such as "):
        load_network(index, **ABOUT)
    shard.unlink()
    with pytest.raises(InputError, match=rf"no file .*{SHARDS[1]}"):
        load_network(index, **ABOUT)


@pytest.mark.parametrize("suffix", [INDEX, "a.safetensors", "a.pth"])
def test_sizes_are_compared_with_the_memory_first(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save_shards(tmp_path) if suffix == INDEX else tmp_path / suffix
    if suffix == "a.safetensors":
        safetensors.torch.save_file(STATE, file)
    elif suffix == "a.pth":
        torch.save(STATE, file)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    for name in ("distill.models.weights.load_plain", "distill.models.weights.read_safetensors"):
        monkeypatch.setattr(name, lambda path: pytest.fail("read before the check"))
    with pytest.raises(InputError, match=r"has 0.0 GB of weights, but only 0.0 GB of memory are free"):
        load_network(file, **ABOUT)
