"""Networks that torch.fx cannot trace, or that are difficult for hooks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.conftest import randomize_statistics


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width)


class Plain(nn.Module):
    """Convolution, batch normalisation, a shared in-place ReLU and an inner layer, without branches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), _norm(6))
        self.relu = nn.ReLU(inplace=True)
        self.inner = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1, stride=2), _norm(8))
        self.mark = nn.Identity()
        self.fc = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.stem(images))
        x = self.relu(self.inner(x))
        x = self.relu(self.mark(x) - 0.1)
        return self.fc(x.mean((-2, -1)))


class Branching(Plain):
    """A network that branches on values."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.stem(images))
        x = self.inner(x) if bool(x.sum() > 0) else self.inner(-x)
        return self.fc(self.mark(self.relu(x)).mean((-2, -1)))


class Around(Plain):
    """A path bypasses `inner`, and the output of `inner` is overwritten."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.stem(images))
        y = self.inner(x)
        y += x[:, :1, ::2, ::2]
        return self.fc(self.relu(y).mean((-2, -1)))


class TwoInputs(Plain):
    """Two inputs: images, and an optional weight for every channel."""

    def forward(self, images: Tensor, gate: Tensor | None = None) -> Tensor:
        x = self.mark(self.relu(self.inner(self.relu(self.stem(images)))))
        return self.fc((x if gate is None else x * gate[:, :, None, None]).mean((-2, -1)))


@dataclass
class Answer:
    logits: Tensor
    features: Tensor


class Recorded(Branching):
    """A network that returns a record."""

    def forward(self, images: Tensor) -> Answer:  # type: ignore[override]
        logits = super().forward(images)
        return Answer(logits, logits.detach())


class Checkpointed(Plain):
    """A network with a checkpointed segment."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.stem(images))
        x = checkpoint(self._tail, x, use_reentrant=False)
        return self.fc(x.mean((-2, -1)))

    def _tail(self, x: Tensor) -> Tensor:
        return self.mark(self.relu(self.inner(x)))


class Noisy(Branching):
    """A network that draws random numbers in training mode."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.mark(self.relu(self.inner(self.relu(self.stem(images)))))
        return self.fc(nn.functional.dropout(x, 0.5, bool(self.training and x.sum() > 0)).mean((-2, -1)))


class Pair(nn.Module):
    """A module with two outputs; the first output is not the one computed last."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.left(images).relu(), self.right(images).relu()


class Returns(nn.Module):
    """Blocks that return their first value, return a pair, are unused, or are never called."""

    def __init__(self) -> None:
        super().__init__()
        self.first = FirstOfTwo()
        self.pair = Pair()
        self.unused = nn.ReLU()
        self.dead = nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        left, _ = self.pair(images)
        self.dead(left)
        return self.fc((left + self.first(images)).mean((-2, -1)))


class FirstOfTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        one = self.one(images).relu()
        return torch.stack([one, self.two(images)])[0] if not isinstance(images, Tensor) else self._keep(one, images)

    def _keep(self, one: Tensor, images: Tensor) -> Tensor:
        self.two(images)
        return one


def made(kind: type[nn.Module], dtype: torch.dtype = torch.float64) -> nn.Module:
    """Return a network in evaluation mode with random batch statistics."""
    torch.manual_seed(3)
    network = kind()
    randomize_statistics(network)
    return network.to(dtype).eval()


def pictures(n: int = 4, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(n, 3, 8, 8, dtype=dtype, generator=torch.Generator().manual_seed(2))


class Tiny(nn.Module):
    """A minimal network: an inner layer with batch normalisation in its head, and a last layer with a closed form."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(3, 4, 3, padding=1), _norm(4), nn.ReLU()
        self.conv2, self.bn2, self.relu2 = nn.Conv2d(4, 5, 3, padding=1, stride=2), _norm(5), nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(5, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(images)))
        x = self.relu2(self.bn2(self.conv2(x)))
        return self.fc(self.pool(x).flatten(1))
