"""Networks of torchvision are built by their names, `torchvision.models:NAME`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from distill.errors import InputError
from distill.models import create_model, import_network

FAMILIES = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3"),
    *("maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet34"),
    *("resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "vgg11", "vit_b_32", "wide_resnet50_2"),
)
#: Layers that are followed by global average pooling and one linear layer.
FINAL = {"mobilenet_v2": "features.18.2", "mnasnet0_5": "layers.16", "efficientnet_b0": "features.8.2"}


def takes_nothing() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def takes_all(**options: Any) -> nn.Module:
    return nn.Linear(options["in_channels"], options["num_classes"])


def is_wrong(**options: Any) -> nn.Module:
    raise TypeError("`width` must be an integer")


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("ignore:The default weight initialization")
def test_each_family_is_built(name: str) -> None:
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # a regnet reads values while it is built
        net = create_model(f"torchvision.models:{name}", num_classes=3, in_channels=3)
        expected = getattr(torchvision.models, name)(num_classes=3)
    assert type(net.network) is type(expected)
    assert net.cuts.get("final") == FINAL.get(name, net.cuts.get("final"))
    assert {key: value.shape for key, value in net.network.state_dict().items()} == {
        key: value.shape for key, value in expected.state_dict().items()
    }


def test_the_channels_are_offered_to_a_callable_with_any_keywords() -> None:
    network = import_network(f"{__name__}:takes_all", num_classes=2, in_channels=5)
    assert isinstance(network, nn.Linear)
    assert network.in_features == 5


def test_a_callable_need_not_take_the_number_of_classes() -> None:
    assert create_model(f"{__name__}:takes_nothing", num_classes=2).cuts == {"final": "1"}


def test_an_option_that_the_user_wrote_is_named() -> None:
    with pytest.raises(InputError, match="unexpected keyword argument 'widht'"):
        create_model("torchvision.models:resnet34", num_classes=2, widht=2)
    with pytest.raises(InputError, match="`width` must be an integer"):
        create_model(f"{__name__}:is_wrong", num_classes=2)
