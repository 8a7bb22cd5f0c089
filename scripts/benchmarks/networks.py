"""The term and the maps at `final` of networks of torchvision and timm, at 96 pixels."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from distill.explain import Explainer
from distill.models import StagedNetwork, create_model, stage_network

from .pairs import alternate, pair_ratios, spread
from .setting import REFERENCE, TERM_AT_FINAL, Row, Setting
from .steps import make_step

SIDE, QUICK_BATCH, MAP_BATCH, CLASSES = 96, 8, 64, 10
TERM, TERM_BY_AUTOGRAD = "step with the term at final", "step with the term at final, by autograd"
MAPS, BATCHED_MAPS = "Grad-CAM maps at final", "pytorch-grad-cam"
FORWARD = "forward pass"


class Branching(nn.Module):
    """A network that torch.fx cannot trace, because it reads a value."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the network."""
        logits: Tensor = self.network(images)
        return logits if bool(logits.isfinite().all()) else logits.nan_to_num()


class Measured(NamedTuple):
    """A network, which is its own teacher, so that the teacher does not hide the cost of the term.

    Args:
        name: Name of the network.
        package: Package that must be installed.
        options: Options of the network.
        hooks: Whether the network is read by hooks, as one that torch.fx cannot trace.
    """

    name: str
    package: str
    options: Mapping[str, Any] = MappingProxyType({})
    hooks: bool = False

    @property
    def label(self) -> str:
        """The name without its module."""
        return self.name.partition(":")[2] + " by hooks" * self.hooks

    def build(self) -> StagedNetwork:
        """Return the network with random weights."""
        network = create_model(self.name, num_classes=CLASSES, **self.options)
        if not self.hooks:
            return network
        return stage_network(Branching(network.network), name=self.label, num_classes=CLASSES)


NETWORKS = (
    Measured("torchvision:mobilenet_v3_small", "torchvision"),
    Measured("torchvision:resnet50", "torchvision"),
    Measured("torchvision:efficientnet_b0", "torchvision"),
    Measured("timm:convnext_atto", "timm"),
)
#: Networks whose gradient at `final` needs autograd, and a double backward in training.
TRANSFORMERS = (
    Measured("timm:vit_tiny_patch16_224", "timm", {"image_size": SIDE}),
    Measured("timm:vit_tiny_patch16_224", "timm", {"image_size": SIDE}, hooks=True),
)


def measure_networks(setting: Setting) -> list[Row]:
    """Compare steps with the term with CE + KD, and maps with forward passes and, if installed, pytorch-grad-cam."""
    rows: list[Row] = []
    for measured in _installed(NETWORKS):
        rows.append(_step_row(measured, TERM, setting))
        rows.extend(_map_rows(measured, setting))
    return rows + [_step_row(measured, TERM_BY_AUTOGRAD, setting) for measured in _installed(TRANSFORMERS)]


def is_installed(package: str) -> bool:
    """Return whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def _installed(networks: tuple[Measured, ...]) -> Iterator[Measured]:
    for measured in networks:
        if is_installed(measured.package):
            yield measured
        else:
            print(f"networks: {measured.label} is left out, because {measured.package} is missing", file=sys.stderr)


def _step_row(measured: Measured, what: str, setting: Setting) -> Row:
    batch = QUICK_BATCH if setting.quick else setting.batches[0]
    steps = {
        name: make_step(
            name, "float32", batch=batch, teacher=measured.build, student=measured.build, size=SIDE, classes=CLASSES
        )
        for name in (REFERENCE, TERM_AT_FINAL)
    }
    seconds = alternate(steps, rounds=setting.rounds_or(9), warm_up=2)
    return _row(measured, what, REFERENCE, batch, seconds[TERM_AT_FINAL], seconds[REFERENCE])


def _map_rows(measured: Measured, setting: Setting) -> Iterator[Row]:
    """Compare maps with forward passes, and pytorch-grad-cam with these maps."""
    torch.manual_seed(0)
    network = measured.build().eval()
    batch = QUICK_BATCH if setting.quick else MAP_BATCH
    images, labels = torch.rand(batch, 3, SIDE, SIDE), torch.randint(CLASSES, (batch,))
    explain = Explainer("grad_cam")
    runs: dict[str, Callable[[], object]] = {
        FORWARD: torch.no_grad()(partial(network, images)),
        MAPS: partial(explain, network, images, labels),
    }
    if is_installed("pytorch_grad_cam"):
        runs[BATCHED_MAPS] = _pytorch_grad_cam(network, images, labels)
    seconds = alternate(runs, rounds=setting.rounds_or(9), warm_up=2)
    yield _row(measured, MAPS, FORWARD, batch, seconds[MAPS], seconds[FORWARD])
    if BATCHED_MAPS in seconds:
        yield _row(measured, BATCHED_MAPS, MAPS, batch, seconds[BATCHED_MAPS], seconds[MAPS])


def _pytorch_grad_cam(network: StagedNetwork, images: Tensor, labels: Tensor) -> Callable[[], object]:
    """Return a function that computes the same maps with pytorch-grad-cam, on the same input of the network."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    inputs = network.normalise(images)
    path = network.cuts["final"].split(".")
    modules = dict(network.network.named_modules())
    while ".".join(path) not in modules:  # the last call of an activation that is called several times: `relu_2`
        path.pop()
    cam = GradCAM(network.network, [modules[".".join(path)]])
    return partial(cam, inputs, [ClassifierOutputTarget(int(label)) for label in labels])


def _row(measured: Measured, what: str, against: str, batch: int, seconds: list[float], reference: list[float]) -> Row:
    return {
        "what": what,
        "network": measured.label,
        "against": against,
        "precision": "float32",
        "batch": batch,
        "reference_seconds": spread(reference)["median"],
        "seconds": spread(seconds)["median"],
        "ratio": pair_ratios(seconds, reference),
    }
