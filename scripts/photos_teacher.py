"""The teacher of configs/photos: EfficientNet-Lite0, which sees the images at twice their size.

The student takes images of 96 pixels. The teacher was trained at 224 pixels and recognises more at 192 than at 96.
"""

from __future__ import annotations

import torch.nn.functional as F
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

FACTOR = 2


class Enlarging(EfficientNet):
    """EfficientNet behind bilinear enlargement; its parameters have the same names."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the 1000 classes of ImageNet."""
        logits: Tensor = super().forward(F.interpolate(images, scale_factor=FACTOR, mode="bilinear"))
        return logits


def efficientnet_lite0(num_classes: int = 1000, image_size: int = 96) -> nn.Module:
    """Return EfficientNet-Lite0 for square images of a size; its convolutions are padded for that size alone."""
    network: nn.Module = Enlarging.from_name(
        "efficientnet-lite0", num_classes=num_classes, image_size=FACTOR * image_size
    )
    return network
