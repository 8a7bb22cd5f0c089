"""A training step with an explanation term, as a function of tensors."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.explain import Explainer
from distill.losses import explanation_loss
from distill.models import AnyModel, StagedNetwork, create_model
from tests.conftest import randomize_statistics

Step = Callable[[Tensor, Tensor, Tensor], Tensor]


def tiny_network(name: str = "tests.models.own_networks:Tiny") -> StagedNetwork:
    """Return a network with three classes in float64 and random batch statistics; every call returns the same."""
    torch.manual_seed(5)
    network = create_model(name, num_classes=3)
    randomize_statistics(network)
    return network.double()


def batch(n: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(6)
    images = torch.rand(n, 3, 8, 8, dtype=torch.float64, generator=generator)
    return images, torch.arange(n) % 3


def make_step(network: StagedNetwork | AnyModel, layer: str) -> Step:
    """Return a step: cross-entropy plus the distance between the layer's Grad-CAM++ maps and given maps."""
    explainer = Explainer("grad_cam_pp", layer)

    def step(images: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
        output = network.run(images, [layer])
        maps = explainer.from_output(output, labels, create_graph=True)
        matching = explanation_loss(maps, teacher, normalize="l2", distance="squared_error")
        return F.cross_entropy(output.logits, labels) + 5 * matching

    return step


def teacher_maps(network: StagedNetwork | AnyModel, layer: str, images: Tensor) -> Tensor:
    """Return random maps of the size of the layer."""
    with torch.no_grad():
        shape = network.run(images, [layer]).activations[layer].shape
    return torch.rand(shape[0], *shape[2:], dtype=images.dtype, generator=torch.Generator().manual_seed(8))


def gradients(network: torch.nn.Module) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in network.parameters()]
