"""Files of weights where the libraries keep what they downloaded, so that tests need no network."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from distill.models import find_library_weights


def cache_torchvision(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, network: nn.Module) -> None:
    """Put the weights of a network into torch's folder of downloads."""
    monkeypatch.setenv("TORCH_HOME", str(folder))
    found = find_library_weights(name, True)
    file = Path(found.folder) / found.url.rpartition("/")[2]
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), file)


def cache_timm(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, network: nn.Module) -> None:
    """Put the weights of a network into Hugging Face's folder of downloads."""
    work_offline(folder, monkeypatch)
    hub = Path(find_library_weights(name, True).folder)
    assert hub.is_relative_to(folder)
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text("0" * 40)
    snapshot = hub / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    safetensors.torch.save_file(network.state_dict(), snapshot / "model.safetensors")


def work_offline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use empty folders of downloads, and let every download fail at once."""
    from huggingface_hub import constants

    monkeypatch.setenv("TORCH_HOME", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def refuse(*arguments: object, **named: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
