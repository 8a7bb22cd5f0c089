"""Checkpoints that are truncated, unsafe or of another network are refused with a clear message."""

from __future__ import annotations

import argparse
import os
import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from distill.errors import InputError
from distill.models import (
    StagedNetwork,
    create_model,
    describe,
    load_model,
    load_network,
    save_model,
)
from distill.models.plain_pickle import load_plain
from distill.models.weights import read_state

SCALING = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


@pytest.fixture
def net() -> StagedNetwork:
    return create_model("wrn_10_1", num_classes=3)


def refused(path: Path, **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_network(path, **{"name": "wrn_10_1", "num_classes": 3, "normalisation": SCALING, **changes})
    message = str(caught.value)
    assert str(path) in message
    return message.replace(str(path), "PATH")


def test_nothing_there(tmp_path: Path) -> None:
    message = "no checkpoint at PATH; give a run directory, a .ckpt, a .safetensors or a .pth."
    assert refused(tmp_path / "none.pth") == message
    assert refused(tmp_path) == (
        "PATH holds no student.safetensors: not a run directory, or a run that has not finished yet."
    )


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("suffix", ["safetensors", "ckpt", "pth"])
def test_a_truncated_file(net: StagedNetwork, tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"whole.{suffix}"
    if suffix == "safetensors":
        safetensors.torch.save_file(net.network.state_dict(), path)
    else:
        torch.save({"state_dict": net.network.state_dict(), "student_spec": describe(net)}, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    expected = "a safetensors file: " if suffix == "safetensors" else "a checkpoint: "
    assert refused(path).startswith(f"PATH is truncated or is not {expected}")


def test_something_else_altogether(tmp_path: Path) -> None:
    for name, content in (("text.pth", b"hello"), ("text.safetensors", b"hello, this is a text"), ("zip.ckpt", b"PK")):
        (tmp_path / name).write_bytes(content)
        assert "PATH" in refused(tmp_path / name)
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    assert refused(tmp_path / "list.pth") == "PATH holds a list; expected a state dict."
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    assert refused(tmp_path / "empty.pth") == "PATH holds no named tensors; expected a state dict."


def test_a_plain_state_dict_must_be_named(net: StagedNetwork, tmp_path: Path) -> None:
    path = tmp_path / "plain.pth"
    torch.save(net.network.state_dict(), path)
    for missing in ("name", "num_classes", "normalisation"):
        assert refused(path, **{missing: None}) == (
            "PATH is a plain state dict without a record of its architecture; set the architecture and the "
            "normalisation that it was trained with: `name: wrn_40_2`, `normalisation: {mean: [...], std: [...]}`."
        )


def test_weights_of_another_network(net: StagedNetwork, tmp_path: Path) -> None:
    path = tmp_path / "foreign.pth"
    torch.save({"layer.weight": torch.zeros(2, 2)}, path)
    expected = [key for key in net.network.state_dict() if not key.endswith("num_batches_tracked")]
    assert refused(path) == (
        f"PATH does not fit wrn_10_1 with 3 classes: {len(expected)} missing: {', '.join(expected[:10])} and "
        f"{len(expected) - 10} more; 1 unexpected: layer.weight."
    )
    torch.save(net.network.state_dict(), path)
    assert refused(path, num_classes=4) == (
        "PATH has 3 classes, but wrn_10_1 has 4: the layer fc does not fit, fc.weight is (3, 64), expected (4, 64)."
    )


def test_the_record_is_believed_over_the_configuration(net: StagedNetwork, tmp_path: Path) -> None:
    save_model(net, tmp_path)
    message = refused(tmp_path / "student.safetensors", name="wrn_16_2")
    assert message == "PATH holds a wrn_10_1, but the configuration asks for 'wrn_16_2'."
    assert load_network(tmp_path, num_classes=99).spec.num_classes == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON: "),
        ("[]", "must hold keys and values at its top level"),
        ('{"format": 2}', "is not the record of a network: expected format 1 with the keys"),
        ('{"format": 1, "name": "wrn_10_1"}', "is not the record of a network: expected format 1 with the keys"),
    ],
)
def test_a_broken_record(net: StagedNetwork, tmp_path: Path, text: str, message: str) -> None:
    save_model(net, tmp_path)
    (tmp_path / "student.json").write_text(text)
    with pytest.raises(InputError) as caught:
        load_model(tmp_path)
    assert message in str(caught.value)


class Planted:
    """An object whose unpickling runs a shell command."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize("suffix", ["pth", "ckpt", "pt"])
@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_that_wants_to_run_code_never_does(tmp_path: Path, suffix: str, how: str) -> None:
    planted, path = tmp_path / "planted", tmp_path / f"hostile.{suffix}"
    content = {"state_dict": {"a": torch.zeros(1)}, "extra": Planted(planted)}
    if how == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    message = refused(path)
    key, name = ("extra", "posix.system") if how == "torch" else ("a", "torch.storage._load_from_bytes")
    assert message.startswith(f"PATH was not loaded: the key {key!r} holds a {name}, and building such an object could")
    assert not planted.exists()
    torch.load(path, weights_only=False) if how == "torch" else pickle.loads(path.read_bytes())
    assert planted.exists()  # or the file above was harmless anyway


@pytest.mark.parametrize(
    "value",
    [
        np.float64(0.5),
        np.float32(0.5),
        np.int64(3),
        np.bool_(True),
        np.str_("a"),
        defaultdict(list, {"a": [1]}),
        frozenset({1}),
        [np.float16(1), {"b": (np.uint8(2), None)}],
    ],
)
def test_plain_values_beside_the_weights_are_read(net: StagedNetwork, tmp_path: Path, value: Any) -> None:
    torch.save({"state_dict": net.network.state_dict(), "best": value}, tmp_path / "a.pth")
    assert load_plain(tmp_path / "a.pth")["best"] == value
    load_network(tmp_path / "a.pth", name="wrn_10_1", num_classes=3, normalisation=SCALING)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (argparse.Namespace(lr=1), "argparse.Namespace"),
        (Path("a"), "pathlib.PosixPath"),
        (np.array(["a", 1], dtype=object), "numpy._core.multiarray._reconstruct"),
    ],
)
def test_a_value_that_is_refused_is_named_with_its_key(
    net: StagedNetwork, tmp_path: Path, value: Any, name: str
) -> None:
    torch.save({"state_dict": net.network.state_dict(), "epoch": 3, "given": value}, tmp_path / "a.pth")
    message = refused(tmp_path / "a.pth")
    assert message.startswith(f"PATH was not loaded: the key 'given' holds a {name}, and building such an object could")
    assert "`torch.save(model.state_dict(), path)`" in message


def test_a_numpy_type_that_is_no_number_is_refused(tmp_path: Path) -> None:
    torch.save({"a": np.dtype("O")}, tmp_path / "a.pth")
    assert refused(tmp_path / "a.pth").startswith("PATH was not loaded: it contains code, or is not a checkpoint.")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("prefix", ["module.", "model.", "net.backbone.", "_orig_mod.", "a.b.c."])
def test_a_common_prefix_is_removed(net: StagedNetwork, tmp_path: Path, suffix: str, prefix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    state = {prefix + key: value.clone() for key, value in net.network.state_dict().items()}
    safetensors.torch.save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    loaded = load_network(path, name="wrn_10_1", num_classes=3, normalisation=SCALING)
    assert torch.equal(loaded.network.fc.weight, net.network.fc.weight)  # type: ignore[arg-type,union-attr]
    del state[prefix + "fc.bias"]
    safetensors.torch.save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    assert "missing: " in refused(path)


def test_a_text_file_is_refused_without_the_advice_to_load_code(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_text('{"weight_map": {}}')

    with pytest.raises(InputError, match="is not a checkpoint") as refused:
        read_state(path)

    assert "weights_only" not in str(refused.value)
