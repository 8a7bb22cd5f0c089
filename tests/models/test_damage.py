"""Changed bytes and values that are not finite are noticed when weights are loaded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from distill.errors import InputError
from distill.models import StagedNetwork, create_model, describe, load_model, load_network, save_model
from distill.models.damage import add_checksum, check_archive, check_checkpoint

PLAIN: dict[str, Any] = {
    "name": "wrn_10_1",
    "num_classes": 3,
    "normalisation": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
}


@pytest.fixture
def net() -> StagedNetwork:
    return create_model("wrn_10_1", num_classes=3)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_changed_weights_are_noticed(net: StagedNetwork, tmp_path: Path) -> None:
    path = save_model(net, tmp_path)
    flip(path, path.stat().st_size // 2)
    with pytest.raises(InputError, match=rf"^{path} was changed or damaged .* the checksum in student\.json\."):
        load_model(tmp_path)


def test_a_changed_record_is_noticed(net: StagedNetwork, tmp_path: Path) -> None:
    save_model(net, tmp_path)
    path = tmp_path / "student.json"
    path.write_text(path.read_text().replace("0.5", "0.6", 1).replace('"num_classes": 3', '"num_classes": 3 '))
    path.write_text(path.read_text().replace('"mean": [', '"mean": [0.25, ', 1))
    with pytest.raises(InputError, match=rf"^{path} was changed or damaged after it was written"):
        load_model(tmp_path)


def test_records_without_checksums_load(net: StagedNetwork, tmp_path: Path) -> None:
    save_model(net, tmp_path)
    (tmp_path / "student.json").write_text(json.dumps(describe(net)))
    assert load_model(tmp_path).spec.name == net.spec.name


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_classes", "3"),
        ("num_classes", 0),
        ("in_channels", 1.5),
        ("name", 7),
        ("options", []),
        ("classes", ["a"]),
        ("classes", "abc"),
        ("normalisation", None),
        ("normalisation", {"mean": [0.5, "x", 0.5], "std": [1, 1, 1]}),
        ("normalisation", {"mean": [0.5] * 3, "std": [1, 0, 1]}),
        ("normalisation", {"mean": [0.5] * 2, "std": [1, 1, 1]}),
    ],
)
def test_a_record_with_a_wrong_kind_of_value_is_refused(
    net: StagedNetwork, tmp_path: Path, key: str, value: object
) -> None:
    save_model(net, tmp_path)
    (tmp_path / "student.json").write_text(json.dumps({**describe(net), key: value}))
    with pytest.raises(InputError, match=rf"student\.json: {key}.* must be "):
        load_model(tmp_path)
    torch.save({"state_dict": {}, "student_spec": {**describe(net), key: value}}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=rf"a\.ckpt: {key}.* must be |holds no named tensors"):
        load_model(tmp_path / "a.ckpt")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_that_are_not_finite_are_refused_by_name(net: StagedNetwork, tmp_path: Path, suffix: str) -> None:
    state = net.network.state_dict()
    state["fc.bias"][1] = torch.nan
    path = tmp_path / f"a.{suffix}"
    torch.save(state, path) if suffix == "pth" else safetensors.torch.save_file(state, path)
    with pytest.raises(InputError, match=rf"^{path}: fc\.bias contains values that are not finite \(1 of 3\)\."):
        load_network(path, **PLAIN)


def test_a_flipped_bit_in_a_file_of_torch_save_is_noticed(net: StagedNetwork, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(net.network.state_dict(), path)
    load_network(path, **PLAIN)
    flip(path, path.stat().st_size // 2)
    with pytest.raises(InputError, match=rf"^{path} is damaged: its entry 'a/data/\d+' does not fit its checksum\."):
        load_network(path, **PLAIN)


def test_a_file_that_was_saved_without_checksums_loads(net: StagedNetwork, tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(net.network.state_dict(), tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    check_archive(tmp_path / "a.pth")
    load_network(tmp_path / "a.pth", **PLAIN)


def test_a_checkpoint_that_was_written_again_with_other_content_is_noticed(net: StagedNetwork, tmp_path: Path) -> None:
    state = {f"student.network.{key}": value for key, value in net.network.state_dict().items()}
    whole = add_checksum({"state_dict": state, "student_spec": describe(net), "epoch": 3, "nested": [(1, 2.5, "a")]})
    path = tmp_path / "a.ckpt"
    torch.save(whole, path)
    assert load_network(path).spec.name == "wrn_10_1"
    check_checkpoint(torch.load(path, weights_only=True), path)
    for change in (
        {"epoch": 4},
        {"nested": [(1, 2.5, "b")]},
        {"state_dict": {**state, "student.network.fc.bias": state["student.network.fc.bias"] + 1}},
    ):
        torch.save({**whole, **change}, path)
        with pytest.raises(InputError, match=rf"^{path} was changed or damaged after it was written"):
            load_network(path)


def test_a_pipe_in_the_place_of_weights_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "student.safetensors")
    with pytest.raises(InputError, match="is a pipe, not a regular file"):
        load_model(tmp_path)
