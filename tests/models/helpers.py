"""Networks for the tests."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.models import StagedNetwork, create_model
from tests.conftest import randomize_statistics


class OwnNetwork(nn.Module):
    """A custom network with in-place operations that overwrite earlier values: ReLUs, `out += identity`, `x *= 2`."""

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 6, 3, padding=1, stride=2)
        self.act = nn.ReLU(inplace=True)
        self.inner = nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1))
        self.last = nn.ReLU(inplace=True)
        self.fc = nn.Linear(6, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        identity = self.stem(images)
        out = self.inner(self.act(identity))
        out += identity
        out *= 2
        return self.fc(self.last(out).mean((-2, -1)))


class FunctionalNetwork(nn.Module):
    """A convolution and functions, with two linear layers after the pooling, so that no layer has a closed form."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.hidden = nn.Linear(5, 7)
        self.fc = nn.Linear(7, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.conv(images), inplace=True)
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        return self.fc(F.relu(self.hidden(x)))


class InPlaceNetwork(nn.Module):
    """Three in-place operations that are not modules."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.fc = nn.Linear(3, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.a(images), True)
        x = torch.relu_(self.b(x))
        return self.fc(self.c(x).relu_().mean((-2, -1)))


class Undecided(nn.Module):
    """A network that branches on values."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(3, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(images.mean((-2, -1))) if images.sum() > 0 else images.sum()


def no_network(num_classes: int) -> list[int]:
    return [num_classes]


def lively(name: str, *, num_classes: int = 3, dtype: torch.dtype = torch.float64, **options: object) -> StagedNetwork:
    """Return a network with random batch statistics."""
    torch.manual_seed(1)
    network = create_model(name, num_classes=num_classes, **options)  # type: ignore[arg-type]
    randomize_statistics(network)
    return network.to(dtype)


def number_of_parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
