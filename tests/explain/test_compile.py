"""A compiled step is one graph, with the same loss and gradients as the eager step."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from distill.explain import Explainer
from distill.models import as_staged
from tests.explain.steps import batch, tiny_network
from tests.models.own_networks import Branching, made, pictures

MACHINE_CODE = "inductor" if shutil.which("c++") or shutil.which("g++") else "aot_eager"

WAYS = ("closed form", "linear backward")


@cache
def compared(*arguments: str) -> dict[str, Any]:
    """Run the comparison in a separate process."""
    command = [sys.executable, "-m", "tests.explain.compiled", *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def check_equal(found: dict[str, float]) -> None:
    """Check equality up to rounding, and that the compared values are not trivial."""
    assert found["difference"] < 1e-11
    assert abs(found["first"] - found["second"]) > 1e-3
    assert found["gradient"] > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("way", WAYS)
def test_a_compiled_step_equals_eager(way: str, mode: str) -> None:
    check_equal(compared("aot_eager", *WAYS, "train", "eval")[f"{way}, {mode}"])


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["group1", "group2", "final"])
def test_a_step_of_a_wide_residual_network_is_one_graph(layer: str) -> None:
    assert compared("aot_eager", *WAYS, "train", "eval")["graphs"][layer] == [1, 0]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_step_in_machine_code_equals_eager(way: str) -> None:
    check_equal(compared(MACHINE_CODE, way, "train")[f"{way}, train"])


@pytest.mark.parametrize("layer", ["relu1", "final"])
def test_the_way_taken_is_the_one_named(layer: str) -> None:
    network = tiny_network().eval()
    images, labels = batch()
    how: Any = "closed_form" if layer == "final" else "linear"
    expected = Explainer("grad_cam_pp", layer)(network, images, labels).maps
    found = Explainer("grad_cam_pp", layer, gradients=how)(network, images, labels).maps
    assert torch.equal(found, expected)
    assert float(found.amax()) > 0


@pytest.mark.parametrize("in_place", [True, False])
def test_a_compiled_network_is_explained_as_it_was_written(in_place: bool) -> None:
    network, labels = made(Branching), torch.tensor([0, 1, 2, 1])
    expected = Explainer("grad_cam_pp", "inner")(network, pictures(), labels)
    torch._dynamo.reset()
    if in_place:
        network.get_submodule("inner").compile(backend="eager")
        compiled: nn.Module = network
    else:
        compiled = torch.compile(network, backend="eager")  # type: ignore[assignment]
    compiled(pictures())
    for net in (compiled, as_staged(compiled)):
        found = Explainer("grad_cam_pp", "inner")(net, pictures(), labels)
        torch.testing.assert_close(found.maps, expected.maps, rtol=1e-12, atol=0)
        torch.testing.assert_close(found.logits, expected.logits, rtol=1e-12, atol=0)
