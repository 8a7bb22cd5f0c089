"""Settings and small inputs that all tests share."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, runtime_checkable

import jaxtyping
import pytest
import torch
from torch import Tensor

from distill.types import Head

if TYPE_CHECKING:
    from distill.models import StagedNetwork

# The shapes that stand in the signatures are checked in tests only. The hook must come before what it looks at,
# so that tests/conftest.py imports none of it at its head; and beartype wants a protocol that can be asked.
runtime_checkable(Head)
CHECKED = (
    "distill.explain.held_out",
    "distill.explain.cam",
    "distill.explain.gradients",
    "distill.explain.softmax_score",
    "distill.losses",
    "distill.maps",
)
jaxtyping.install_import_hook(CHECKED, "beartype.beartype")

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Let wrong input reach the function, to read the error that a user would read."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def randomize_statistics(network: torch.nn.Module) -> None:
    """Give every batch normalisation affine parameters and running statistics that are not 0 and 1."""
    generator = torch.Generator().manual_seed(7)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                assert tensor is not None
                tensor.uniform_(-0.3, 0.3, generator=generator)


def small_network(name: str, dtype: torch.dtype) -> StagedNetwork:
    """A network of three classes, in evaluation mode, with lively batch normalisation."""
    from distill.models import create_model

    torch.manual_seed(1)
    network = create_model(name, num_classes=3)
    randomize_statistics(network)
    return network.to(dtype).eval()


@pytest.fixture
def wrn() -> StagedNetwork:
    return small_network("wrn_10_1", torch.float64)


@pytest.fixture
def wrn32() -> StagedNetwork:
    return small_network("wrn_10_1", torch.float32)


@pytest.fixture
def resnet() -> StagedNetwork:
    return small_network("resnet18", torch.float64)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def labels() -> Tensor:
    return torch.tensor([0, 1, 2, 1])


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test see the terms that another one registered."""
    from distill.config import custom_terms
    from distill.losses import registry

    monkeypatch.setattr(registry, "_TERMS", dict(registry._TERMS))
    monkeypatch.setattr(custom_terms, "_OPTIONS", {})


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not allow to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
