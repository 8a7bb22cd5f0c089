"""Networks with every operation that the linear backward supports, and some that it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from distill.models import StagedNetwork, create_model
from distill.models.staged import ModelSpec


class Case(NamedTuple):
    """A network, the shape of its images, and the layers to cut."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    layers: tuple[str, ...]


class Residual(nn.Module):
    """A block with many in-place operations: in-place ReLUs, `out += identity`, one ReLU used twice."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=2, dilation=2, bias=False)
        self.bn2 = nn.BatchNorm2d(channels, affine=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x
        result: Tensor = self.relu(out)
        return result


class Tail(nn.Module):
    """A network of functions and methods instead of modules: three forms of sums, F.relu, a constant, a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = torch.relu(self.conv(x)) + x
        y = torch.add(self.conv(y).relu(), y) + y
        y = nn.functional.relu(self.conv(y) + 0.1, inplace=True)
        logits: Tensor = self.fc(y.mean((2, 3)))
        return logits


def vgg() -> nn.Module:
    """Max pooling with and without overlap, strides that skip inputs, groups, dilation, two linear layers."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(inplace=True),  # 1: 15 x 17
        nn.Conv2d(6, 8, (3, 2), stride=2, padding=1, groups=2),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        Residual(8, groups=4),  # 6: 4 x 5
        nn.MaxPool2d(2, stride=1),
        nn.Conv2d(8, 6, 3, padding=2, dilation=2, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),  # 10: 3 x 4
        nn.AvgPool2d((2, 3), stride=(1, 2), padding=(1, 1), count_include_pad=False),
        nn.Dropout(0.0),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 5),
        nn.ReLU(inplace=True),
        nn.Linear(5, 3),
    )


def mobile() -> nn.Module:
    """The activation functions and the head of a MobileNetV3; weights so large that ReLU6 reaches 6."""
    wide = nn.Conv2d(6, 6, 3, stride=2, groups=6)
    nn.init.normal_(wide.weight, std=2)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU6(inplace=True),  # 2: 9 x 9
        wide,
        nn.ReLU6(inplace=True),  # 4: 4 x 4
        nn.Conv2d(6, 8, 1),
        nn.Hardswish(inplace=True),  # 6
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 7),
        nn.Hardswish(inplace=True),
        nn.Dropout(0.0, inplace=True),
        nn.Linear(7, 3),
    )


def sequences() -> nn.Module:
    """One spatial axis."""
    return nn.Sequential(
        nn.Conv1d(3, 4, 3),
        nn.ReLU(),
        nn.Conv1d(4, 6, 4, stride=3, padding=1, groups=2),
        nn.BatchNorm1d(6),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


def clips() -> nn.Module:
    """Three spatial axes."""
    return nn.Sequential(
        nn.Conv3d(3, 4, 3),
        nn.ReLU(),
        nn.Conv3d(4, 6, (1, 3, 2), stride=(1, 2, 2), padding=(0, 1, 0)),
        nn.BatchNorm3d(6),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


def basic() -> nn.Module:
    network: nn.Module = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3)
    return network


def bottleneck() -> nn.Module:
    network: nn.Module = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=3, groups=2, width_per_group=4)
    return network


def wide() -> nn.Module:
    return create_model("wrn_10_1", num_classes=3).network


CASES = {
    "wrn": Case(wide, (4, 3, 8, 8), ("relu", "block3.layer.0.relu1", "block2.layer.0.relu1")),
    "resnet18": Case(basic, (2, 3, 33, 33), ("layer4", "layer3", "layer2")),
    "resnet50": Case(bottleneck, (2, 3, 33, 33), ("layer4", "layer3", "layer1")),
    "vgg": Case(vgg, (3, 3, 15, 17), ("10", "6", "1")),
    "functions": Case(Tail, (3, 3, 7, 7), ("stem",)),
    "mobile": Case(mobile, (4, 3, 11, 11), ("6", "4", "2")),
    "sequences": Case(sequences, (3, 3, 14), ("4", "1")),
    "clips": Case(clips, (3, 3, 5, 6, 7), ("4", "1")),
}


def staged(network: nn.Module, *, training: bool) -> StagedNetwork:
    """Create a network with three classes, in float64 with random batch statistics."""
    result = StagedNetwork(network, ModelSpec("mine", 3), cuts={})
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            spread = [tensor for tensor in (module.weight, module.running_var) if tensor is not None]
            shift = [tensor for tensor in (module.bias, module.running_mean) if tensor is not None]
            for tensor in spread:
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in shift:
                torch.nn.init.uniform_(tensor, -0.3, 0.3)
    return result.double().train(training)


def make(name: str, *, training: bool) -> tuple[StagedNetwork, Tensor]:
    """Build a case, and its images."""
    torch.manual_seed(3)
    case = CASES[name]
    network = staged(case.build(), training=training)
    return network, torch.rand(case.shape, dtype=torch.float64)
