"""Exported files return the logits and maps of the network, computed here by other means."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.errors import InputError, RunError
from distill.export import FORMATS, Deployed, export_program
from tests.export.helpers import CLASSES, expected_logits, expected_maps, network

FORMAT_NAMES = ("onnx", "pt2")
Run = Callable[[Tensor], "dict[str, Tensor]"]
Files = Callable[[str, "str | None"], Path]


def pictures(n: int) -> Tensor:
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Return a function that exports one student to a format and layer, once for each."""
    folder = tmp_path_factory.mktemp("files")

    def file(format: str, layer: str | None) -> Path:
        path = folder / f"{layer}.{format}"
        if not path.exists():
            exported(path, format=format, layer=layer)
        return path

    return file


def exported(path: Path, *, format: str, layer: str | None = None, opset: int | None = None) -> Run:
    deployed = Deployed(network(), size=(16, 16), layer=layer)
    facts = json.dumps(deployed.facts())
    FORMATS[format].write(export_program(deployed), path, outputs=deployed.outputs, facts=facts, opset=opset)
    return FORMATS[format].open(path)  # type: ignore[return-value]


@pytest.fixture(params=FORMAT_NAMES)
def format(request: pytest.FixtureRequest) -> str:
    for package in FORMATS[request.param].packages:
        pytest.importorskip(package)
    return str(request.param)


def test_logits_match_at_any_batch_size(files: Files, format: str) -> None:
    run = FORMATS[format].open(files(format, None))
    for n in (1, 2, 5, 33):
        out = run(pictures(n))
        assert list(out) == ["logits"]
        torch.testing.assert_close(out["logits"], expected_logits(network(), pictures(n)), rtol=1e-4, atol=1e-4)
    assert len(set(expected_logits(network(), pictures(33)).argmax(1).tolist())) > 1


@pytest.mark.parametrize("layer", ["final", "group2", pytest.param("group1", marks=pytest.mark.slow)])
def test_maps_of_the_predicted_class_match(files: Files, format: str, layer: str) -> None:
    run = FORMATS[format].open(files(format, layer))
    images = pictures(5)
    out = run(images)
    assert list(out) == ["logits", "maps"]
    expected = expected_maps(network(), layer, images)
    assert out["maps"].shape == expected.shape
    np.testing.assert_allclose(out["maps"].numpy(), expected, atol=2e-3)
    np.testing.assert_allclose(out["maps"].flatten(1).amax(1).numpy(), 1.0, atol=1e-6)
    torch.testing.assert_close(run(images[2:3])["maps"], out["maps"][2:3], rtol=0, atol=1e-4)


def test_a_map_that_is_zero_everywhere_stays_zero(tmp_path: Path, format: str) -> None:
    net = network()
    fc = net.network.get_submodule("fc")
    assert isinstance(fc, torch.nn.Linear)
    torch.nn.init.constant_(fc.weight, -1.0)
    deployed = Deployed(net, size=(16, 16), layer="final")
    path = tmp_path / "student"
    FORMATS[format].write(export_program(deployed), path, outputs=deployed.outputs, facts="{}", opset=None)
    assert FORMATS[format].open(path)(pictures(3))["maps"].tolist() == torch.zeros(3, 4, 4).tolist()


def test_an_onnx_file_has_metadata_and_no_local_paths(files: Files) -> None:
    onnx = pytest.importorskip("onnx")
    path = files("onnx", "group2")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    entry, checksum = model.metadata_props
    assert checksum.key == "distill_explain_sha256"
    facts = json.loads(entry.value)
    assert entry.key == "distill_explain"
    assert (facts["architecture"], facts["classes"], facts["size"]) == ("wrn_10_1", list(CLASSES), [16, 16])
    assert facts["maps"] == {"method": "grad_cam_pp", "layer": "group2", "class": "predicted", "normalized": "max"}
    assert [value.name for value in model.graph.input] == ["images"]
    assert [value.name for value in model.graph.output] == ["logits", "maps"]
    first = model.graph.input[0].type.tensor_type.shape.dim
    assert first[0].dim_param == "batch"
    assert [dim.dim_value for dim in first[1:]] == [3, 16, 16]
    content = path.read_bytes()
    assert os.fsencode(str(Path.cwd())) not in content
    assert b".py" not in content


@pytest.mark.parametrize("opset", [18, pytest.param(21, marks=pytest.mark.slow)])
def test_the_opset_is_the_requested_one(tmp_path: Path, opset: int) -> None:
    onnx = pytest.importorskip("onnx")
    run = exported(tmp_path / "student.onnx", format="onnx", layer="final", opset=opset)
    versions = {entry.domain: entry.version for entry in onnx.load(tmp_path / "student.onnx").opset_import}
    assert versions[""] == opset
    torch.testing.assert_close(
        run(pictures(3))["logits"], expected_logits(network(), pictures(3)), rtol=1e-4, atol=1e-4
    )


def test_an_unsupported_opset_is_rejected(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    with pytest.raises(InputError, match="--opset must be from 18 to "):
        exported(tmp_path / "student.onnx", format="onnx", opset=9)
    with pytest.raises(InputError, match="--opset applies to --format onnx only; leave it out"):
        exported(tmp_path / "student.pt2", format="pt2", opset=18)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_program_runs_without_this_project(files: Files) -> None:
    path = files("pt2", "group2")
    script = """
import sys, json, torch
extra = {"distill_explain.json": ""}
program = torch.export.load("group2.pt2", extra_files=extra).module()
out = program(torch.full((3, 3, 16, 16), 0.25))
assert not any(name.startswith("distill") for name in sys.modules)
print(json.dumps([out["logits"].tolist(), json.loads(extra["distill_explain.json"])["size"]]))
"""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=path.parent, env=environment, capture_output=True, text=True, check=True
    )
    logits, size = json.loads(process.stdout)
    expected = expected_logits(network(), torch.full((3, 3, 16, 16), 0.25))
    torch.testing.assert_close(torch.tensor(logits), expected, rtol=1e-4, atol=1e-4)
    assert size == [16, 16]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("group9", "maps of layer 'group9' cannot be exported: `layer` must be one of group1, group2, final"),
        ("group2_sum", "was not read as a cut"),
        ("block3.layer.0.conv1", "was not read as a cut"),
    ],
)
def test_a_layer_without_maps_is_rejected(layer: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Deployed(network(), size=(16, 16), layer=layer)


def test_a_head_that_needs_autograd_is_rejected() -> None:
    net = network("tests.models.helpers:OwnNetwork", classes=("a", "b", "c"))
    assert Deployed(net, size=(16, 16), layer="final").outputs == ("logits", "maps")
    message = (
        r"^maps of layer 'stem' cannot be exported: no linear backward for .*, and an exported file has no autograd\. "
        r"Choose a later"
    )
    with pytest.raises(InputError, match=message):
        Deployed(net, size=(16, 16), layer="stem")


def test_exporting_does_not_change_the_student() -> None:
    net = network().train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    Deployed(net, size=(16, 16), layer="group2")(pictures(3))
    assert net.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_program_contains_tensor_operations_only() -> None:
    program = export_program(Deployed(network(), size=(16, 16), layer="final"))
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert {name for name in called if not name.startswith("aten.")} <= {"<built-in function getitem>"}
    assert "aten.argmax.default" in called


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_a_changed_file_is_noticed(files: Files, tmp_path: Path, kind: str) -> None:
    source = files(kind, "group2")
    path = tmp_path / source.name
    content = bytearray(source.read_bytes())
    position = bytes(content).find(b"distill_explain") if kind == "onnx" else len(content) // 2
    content[position - 200 if kind == "onnx" else position] ^= 1
    path.write_bytes(content)
    with pytest.raises((InputError, RunError), match=r"was changed or damaged|is damaged|cannot load"):
        FORMATS[kind].open(path)
