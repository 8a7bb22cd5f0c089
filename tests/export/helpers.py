"""Finished runs without training, and reference outputs of their networks computed by other means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.build import load_config
from distill.config import to_yaml
from distill.models import StagedNetwork, save_model
from tests.models.helpers import lively
from tests.oracles import cam as oracle

CLASSES = ("top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
SCALING = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}


def finished_run(folder: Path, *pairs: str, name: str = "wrn_10_1", **options: Any) -> Path:
    """Write a run directory with the files that other commands read: the configuration and the student."""
    defaults = ["data={name: fashion_scenes, size: 16, count: 72}", f"student.name={name}", "trainer.max_epochs=1"]
    config = load_config([], [*defaults, f"output_dir={folder.parent}", f"name={folder.name}", *pairs])
    save_model(network(name, **options), folder)
    (folder / "config.yaml").write_text(to_yaml(config))
    return folder


def network(name: str = "wrn_10_1", **options: Any) -> StagedNetwork:
    """Return a network in evaluation mode whose predictions cover many classes."""
    settings = {**SCALING, "classes": CLASSES, "dtype": torch.float32, **options}
    net = lively(name, num_classes=len(settings["classes"]), **settings).eval()
    if isinstance(head := getattr(net.network, "fc", None), torch.nn.Linear):
        torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(5))
    return net


def expected_logits(net: StagedNetwork, images: Tensor) -> Tensor:
    """Return the logits of the inner network for images that are normalised here."""
    mean, std = (torch.tensor(SCALING[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        return net.network((images - mean) / std)


def expected_maps(net: StagedNetwork, layer: str, images: Tensor) -> NDArray[np.float64]:
    """Return Grad-CAM++ maps of the predicted class in float64, by autograd at a hook and numpy loops; maximum 1."""
    double = network(net.spec.name).double()
    activations: list[Tensor] = []

    def keep(module: torch.nn.Module, inputs: Any, output: Tensor) -> Tensor:
        activations.append(output)
        return output

    handle = double.network.get_submodule(double.cuts[layer]).register_forward_hook(keep)
    logits = double(images.double())
    handle.remove()
    (gradients,) = torch.autograd.grad(logits.amax(1).sum(), activations[-1])
    maps = oracle.grad_cam_pp(activations[-1].detach().numpy(), gradients.numpy())
    return np.stack([one / one.max() if one.max() > 0 else one for one in maps])
