"""Files that claim huge sizes are refused before memory is taken for them."""

from __future__ import annotations

import json
import resource
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.checksums import CHECKSUM, save_checked
from distill.errors import InputError
from distill.models import create_model, load_model, load_network, save_model

SCALING = {"mean": [0.5] * 3, "std": [0.25] * 3}


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    """Let the process take at most 2 GB more than it has: a larger claim is a MemoryError instead of a full machine."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (2 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(create_model("wrn_10_1", num_classes=10), tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        {"name": "wrn_10_1000000"},
        {"name": "wrn_40_4000"},
        {"name": "wrn_10_1000000000000"},
        {"name": "wrn_6000004_1"},
        {"name": f"wrn_10_{'9' * 5000}"},
        {"num_classes": 1 << 24},
        {"in_channels": 1 << 24},
        {"name": "resnet50", "num_classes": 1 << 24},
        {"name": "torchvision.models:resnet18", "options": {"num_classes": 10**9}},
        {"name": "torchvision.models:resnet50", "options": {"width_per_group": 10**7}},
        {"name": "torchvision.models:resnet50", "options": {"width_per_group": 10**15}},
    ],
)
@pytest.mark.parametrize("kind", ["student.json", "checkpoint"])
def test_a_record_of_a_huge_network_is_refused(saved: Path, change: dict[str, Any], kind: str) -> None:
    record = {**json.loads((saved / "student.json").read_text()), **change}
    record.pop(CHECKSUM)
    path = saved
    if kind == "student.json":
        save_checked(record, saved / "student.json")
    else:
        state = load_model(saved).network.state_dict()
        path = saved / "a.ckpt"
        weights = {f"student.network.{key}": value for key, value in state.items()}
        torch.save({"student_spec": record, "state_dict": weights}, path)
    with pytest.raises(InputError, match=rf"^{saved}"):
        load_model(path, trust=True)


def test_a_tensor_that_repeats_one_value_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"fc.weight": torch.zeros(1).expand(10**6, 10**6)}, path)
    with pytest.raises(InputError, match=rf"^{path}: a tensor of the shape \(1000000, 1000000\) has only 1 value\."):
        load_network(path, name="wrn_10_1", num_classes=10, normalisation=SCALING)


def test_a_small_expanded_buffer_is_read(saved: Path) -> None:
    state = load_model(saved).network.state_dict()
    path = saved / "a.pth"
    torch.save({**state, "bn1.weight": torch.ones(1).expand(64)}, path)
    loaded = load_network(path, name="wrn_10_1", num_classes=10, normalisation=SCALING)
    assert loaded.network.state_dict()["bn1.weight"].tolist() == [1] * 64


def test_a_compressed_checkpoint_is_refused(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.pth", tmp_path / "a.pth"
    torch.save({"fc.weight": torch.zeros(1 << 22)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    with pytest.raises(InputError, match=rf"^{path} is compressed"):
        load_network(path, name="wrn_10_1", num_classes=10, normalisation=SCALING)


@pytest.mark.parametrize("count", [1 << 20, 1 << 40, 1 << 62, 1 << 80])
def test_a_safetensors_header_that_claims_huge_sizes_is_refused(tmp_path: Path, count: int) -> None:
    path = tmp_path / "a.safetensors"
    head = json.dumps({"fc.weight": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}).encode()
    for length in (len(head), 1 << 62):
        path.write_bytes(struct.pack("<Q", length) + head + b"\0" * 16)
        with pytest.raises(InputError, match=rf"^{path} is truncated or is not a safetensors file"):
            load_network(path, name="wrn_10_1", num_classes=10, normalisation=SCALING)
