"""Activations that are tokens, or have their channels on the last axis, are not explained as if they were maps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ConvNeXt
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from distill.errors import InputError
from distill.explain import Explainer
from distill.models import as_staged, stage_network
from tests.evaluation.checks import CLASSES, image_set, record_of

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
READ: tuple[Callable[[nn.Module], nn.Module], ...] = (lambda network: network, as_staged)


def vit() -> nn.Module:
    return VisionTransformer(16, 8, 2, 2, 32, 64, num_classes=5).eval()


def swin() -> nn.Module:
    return SwinTransformer([2, 2], 24, [1, 1], [2, 4], [2, 2], num_classes=5).eval()


def convnext() -> nn.Module:
    return ConvNeXt([CNBlockConfig(8, 12, 1), CNBlockConfig(12, None, 1)], num_classes=5).eval()


@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("layer", ["encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1", "encoder.ln"])
def test_tokens_are_refused(layer: str, read: Callable[[nn.Module], nn.Module]) -> None:
    with pytest.raises(
        ValueError, match=r"returns activations of 3 axes, \(2, 5, 32\), .*\(N, T, K\).*Explain a layer"
    ):
        Explainer("grad_cam", layer, "predicted")(read(vit()), IMAGES)


@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize(
    "layer", ["features", "features.0", "features.1", "features.3.0", "norm", "features.3.0.norm2"]
)
@pytest.mark.parametrize("method", ["grad_cam", "activation_attention", "guided_grad_cam"])
def test_channels_on_the_last_axis_are_refused(method: str, layer: str, read: Callable[[nn.Module], nn.Module]) -> None:
    with pytest.raises(
        ValueError, match=r"channels are on the last axis, on which (LayerNorm|Linear) acts.*\(N, K, H, W"
    ):
        Explainer(method, layer, "predicted")(read(swin()), IMAGES)


@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize(
    ("make", "layer", "size"),
    [
        (swin, "permute", 4),
        (swin, "features.0.0", 8),
        (vit, "conv_proj", 2),
        (convnext, "features", 2),
        (convnext, "features.1", 4),
        (convnext, "features.2.1", 2),
    ],
)
def test_layers_with_maps_are_explained(
    make: Callable[[], nn.Module], layer: str, size: int, read: Callable[[nn.Module], nn.Module]
) -> None:
    assert Explainer("grad_cam", layer, "predicted")(read(make()), IMAGES).maps.shape == (2, size, size)


def test_signals_have_activations_of_three_axes() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(2, 4, 3, padding=1)
            self.along = nn.Linear(9, 1)
            self.fc = nn.Linear(4, 3)

        def forward(self, signals: Tensor) -> Tensor:
            return self.fc(self.along(self.conv(signals))[:, :, 0])

    for read in READ:
        maps = Explainer("grad_cam", "conv", "predicted")(read(Net().eval()), torch.rand(5, 2, 9)).maps
        assert maps.shape == (5, 9)


def test_an_evaluation_names_the_network() -> None:
    torch.manual_seed(0)
    network = stage_network(
        SwinTransformer([2, 2], 24, [1, 1], [2, 4], [2, 2], num_classes=3),
        name="swin",
        num_classes=3,
        classes=CLASSES,
    )
    network.cuts["final"] = "norm"
    with pytest.raises(InputError, match=r"network 'teacher': .*its channels are on the last axis"):
        record_of({"teacher": network}, image_set())
