"""Small transformers and networks with the channels on the last axis, with random values in all parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

CLASSES = 5


class Case(NamedTuple):
    """A network, the size of its images, one of its layers, and what brings activations of this layer to (N, K, H, W).

    ``rows`` and ``columns`` are those of the map, ``prefix`` the number of tokens before the patches; None for
    activations (N, H, W, K).
    """

    make: Callable[[], nn.Module]
    size: tuple[int, int]
    layer: str
    rows: int
    columns: int
    prefix: int | None

    def reshape(self, values: Tensor) -> Tensor:
        """Arrange the values site by site."""
        maps = torch.zeros(len(values), values.shape[-1], self.rows, self.columns, dtype=values.dtype)
        for row in range(self.rows):
            for column in range(self.columns):
                place = (row, column) if self.prefix is None else (self.prefix + row * self.columns + column,)
                maps[:, :, row, column] = values[(slice(None), *place)]
        return maps


def vit(**options: Any) -> nn.Module:
    return VisionTransformer(**{"image_size": 32, "patch_size": 8, **options}, num_layers=2, num_heads=2, hidden_dim=16,
                             mlp_dim=32, num_classes=CLASSES)  # fmt: skip


def swin() -> nn.Module:
    return SwinTransformer([4, 4], 8, [1, 1], [2, 4], [2, 2], num_classes=CLASSES)


def from_timm(name: str, **options: Any) -> nn.Module:
    timm = pytest.importorskip("timm")
    network: nn.Module = timm.create_model(name, num_classes=CLASSES, **options)
    return network


def from_transformers(kind: str, **options: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{kind}Config")(num_labels=CLASSES, **options)
    network: nn.Module = getattr(transformers, f"{kind}ForImageClassification")(config)
    return network


_SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 2, "depth": 2}
_BERT: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CASES = {
    "vit": Case(vit, (32, 32), "encoder.layers.encoder_layer_1.ln_1", 4, 4, 1),
    "swin": Case(swin, (32, 32), "norm", 4, 4, None),
    "swin, first stage": Case(swin, (32, 32), "features.1", 8, 8, None),
    "timm vit": Case(lambda: from_timm("vit_tiny_patch16_224", **_SMALL), (32, 32), "blocks.1.norm1", 4, 4, 1),
    "timm deit": Case(
        lambda: from_timm("deit_tiny_distilled_patch16_224", **_SMALL), (32, 32), "blocks.1.norm1", 4, 4, 2
    ),
    "timm registers": Case(
        lambda: from_timm("vit_medium_patch16_reg4_gap_256", **(_SMALL | {"img_size": (24, 40)})),
        *((24, 40), "blocks.1", 3, 5, 4),
    ),
    "timm swin": Case(
        lambda: from_timm(
            "swin_tiny_patch4_window7_224", img_size=32, window_size=4, depths=(1, 1), num_heads=(2, 2), embed_dim=8
        ),
        *((32, 32), "norm", 4, 4, None),
    ),
    "transformers vit": Case(
        lambda: from_transformers("ViT", image_size=32, patch_size=8, **_BERT), (32, 32), "", 4, 4, 1
    ),
    "transformers swin": Case(
        lambda: from_transformers(
            "Swin", image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4
        ),
        *((32, 32), "swin.layernorm", 4, 4, 0),
    ),
}


def network_of(name: str) -> nn.Module:
    """Build the network of a case in evaluation mode and double precision, with random values everywhere."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CASES[name].make().double().eval()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
    return network


def images_of(name: str, count: int = 3) -> Tensor:
    """Random images of the size that the network of a case takes."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, *CASES[name].size, generator=generator, dtype=torch.float64)
