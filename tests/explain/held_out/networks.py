"""Equivalent networks with different ReLU calls, and reference implementations of ReLU rules."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from tests.conftest import randomize_statistics

SENSITIVITIES = ("saliency", "smooth_grad", "guided_backprop", "deconvolution", "guided_grad_cam")
#: Settings with which every method is quick.
QUICK: dict[str, dict[str, Any]] = {
    "smooth_grad": {"samples": 6},
    "integrated_gradients": {"steps": 8},
    "lime": {"samples": 30, "patches": 2},
    "occlusion": {"window": 4, "stride": 2},
    "rise": {"masks": 40, "cells": 3},
}


def as_map(method: str, attributions: Tensor) -> Tensor:
    """Reduce attributions to maps, for sensitivities and contributions."""
    if method in SENSITIVITIES:
        return attributions.detach().abs().max(1).values
    return attributions.detach().sum(1).clamp(min=0)


class OwnReLUs(BasicBlock):
    """torchvision's block with a separate module for every ReLU, not in place."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(out + identity)


def resnet_with_own_relus(state: dict[str, Tensor]) -> nn.Module:
    """Return a network that computes the same function as torchvision's ResNet-18 with these weights."""
    network = ResNet(OwnReLUs, [2, 2, 2, 2], num_classes=3).double()
    network.relu = nn.ReLU()
    network.load_state_dict(state)
    return network.eval()


class Functional(nn.Module):
    """ReLU functions instead of modules: one overwrites its input, and the input of another is used twice."""

    def __init__(self, *, branching: bool = False) -> None:
        super().__init__()
        self.branching = branching
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(images)
        F.relu(x, inplace=True)
        y = self.norm(self.second(x))
        if self.branching and bool(y.sum() > 1e9):
            return self.fc(y.mean((-2, -1)))
        return self.fc((torch.relu(y) + 0.5 * y).relu_().mean((-2, -1)))


class RuledRelu(torch.autograd.Function):
    """A ReLU with the backward of guided backpropagation or deconvolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, guided: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.guided = guided
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,), (gradient,) = ctx.saved_tensors, gradients
        return gradient.clamp(min=0) * ((x > 0) if ctx.guided else 1), None


def ruled_gradient(network: Functional, images: Tensor, labels: Tensor, *, guided: bool) -> Tensor:
    """Return the gradient of the logits with respect to the images under the rule."""
    leaf = images.clone().requires_grad_()

    def relu(x: Tensor) -> Tensor:
        found = RuledRelu.apply(x, guided)
        assert isinstance(found, Tensor)
        return found

    y = network.norm(network.second(relu(network.first(leaf))))
    logits = network.fc(relu(relu(y) + 0.5 * y).mean((-2, -1)))
    (gradient,) = torch.autograd.grad(logits[torch.arange(len(labels)), labels].sum(), leaf)
    return gradient


def functional(*, branching: bool = False) -> Functional:
    torch.manual_seed(1)
    network = Functional(branching=branching)
    randomize_statistics(network)
    return network.double().eval()
