"""Wide residual networks.

References:
    - Zagoruyko & Komodakis, "Wide Residual Networks", BMVC 2016, arXiv 1605.07146 (table 1).

Differences from the paper's code:
    - Pooling is global, so the input may have any size that two strides of 2 allow.
    - Parameters are named as in WideResNet-pytorch and RepDistiller, so their checkpoints can be loaded unchanged.
"""

from __future__ import annotations

import re

from jaxtyping import Float
from torch import Tensor, nn

#: Cuts: post-ReLU activations that determine the logits alone. In a block that changes the width, the first (bn, relu)
#: is the input of both the convolution and the shortcut, so `group1` and `group2` are at these layers.
CUTS = {"group1": "block2.layer.0.relu1", "group2": "block3.layer.0.relu1", "final": "relu"}

#: Taps: the outputs of the residual groups before the ReLU. They can be negative, so they are not suited for maps.
TAPS = {"group1_sum": "block1", "group2_sum": "block2", "group3_sum": "block3"}


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions in pre-activation order, with a shortcut; a 1 x 1 convolution if the width changes."""

    def __init__(self, in_planes: int, out_planes: int, *, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_planes, out_planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_planes)
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self.conv2 = nn.Conv2d(out_planes, out_planes, 3, padding=1, bias=False)
        self.widens = in_planes != out_planes
        if self.widens:
            self.convShortcut = nn.Conv2d(in_planes, out_planes, 1, stride=stride, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k i j"]:
        """Return the sum of the residual branch and the shortcut."""
        activated = self.relu1(self.bn1(x))
        residual = self.conv2(self.dropout(self.relu2(self.bn2(self.conv1(activated)))))
        return residual + (self.convShortcut(activated) if self.widens else x)


class Group(nn.Module):
    """A sequence of blocks of one width; the first block has the stride."""

    def __init__(self, blocks: int, in_planes: int, out_planes: int, *, stride: int, dropout: float) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            *(
                BasicBlock(out_planes if i else in_planes, out_planes, stride=1 if i else stride, dropout=dropout)
                for i in range(blocks)
            )
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k i j"]:
        """Run the blocks in sequence."""
        return self.layer(x)


class WideResNet(nn.Module):
    """Wide residual network WRN-D-K, with D = 6n + 4 layers and K times the base widths 16, 32 and 64.

    Args:
        depth: D, such as 10, 16, 22, 28 or 40.
        width: K, at least 1.
        num_classes: Number of classes: the length of the logits.
        in_channels: Number of image channels.
        dropout: Dropout probability between the two convolutions of a block, in [0, 1]; 0 means no dropout.

    Raises:
        ValueError: If the depth is not 6n + 4, or the width is below 1.

    Example:
        >>> sum(p.numel() for p in WideResNet(16, 2, num_classes=10).parameters())
        691674
    """

    def __init__(self, depth: int, width: int, *, num_classes: int, in_channels: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"`depth` must be 6n + 4 (10, 16, 22, 28, 40, ...), got {depth}.")
        if width < 1:
            raise ValueError(f"`width` must be at least 1, got {width}.")
        blocks = (depth - 4) // 6
        planes = [16 * width, 32 * width, 64 * width]
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block1 = Group(blocks, 16, planes[0], stride=1, dropout=dropout)
        self.block2 = Group(blocks, planes[0], planes[1], stride=2, dropout=dropout)
        self.block3 = Group(blocks, planes[1], planes[2], stride=2, dropout=dropout)
        self.bn1 = nn.BatchNorm2d(planes[2])
        self.relu = nn.ReLU()
        self.fc = nn.Linear(planes[2], num_classes)
        self._initialise()

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Compute the logits of normalised images."""
        features = self.block3(self.block2(self.block1(self.conv1(images))))
        return self.fc(self.relu(self.bn1(features)).mean((-2, -1)))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)


def parse_name(name: str) -> tuple[int, int] | None:
    """Return (depth, width) of a name ``wrn_D_K``, or None if the name has another form.

    Example:
        >>> parse_name("wrn_40_2"), parse_name("resnet18")
        ((40, 2), None)
    """
    match = re.fullmatch(r"wrn_([0-9]{1,9})_([0-9]{1,9})", name)
    return (int(match[1]), int(match[2])) if match else None
