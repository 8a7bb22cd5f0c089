"""Architectures: sizes, inputs, options, and names that do not exist."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distill.errors import InputError
from distill.models import create_model
from tests.models.helpers import lively, number_of_parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("wrn_10_1", 77_850),
        ("wrn_16_1", 175_066),
        ("wrn_16_2", 691_674),
        ("wrn_40_2", 2_243_546),
        ("resnet18", 11_181_642),  # torchvision's 11,689,512 with 10 classes instead of 1,000
        ("resnet50", 23_528_522),
    ],
)
def test_parameters_with_ten_classes(name: str, parameters: int) -> None:
    assert number_of_parameters(create_model(name, num_classes=10)) == parameters


def test_input_scaling_is_no_parameter() -> None:
    net = create_model("wrn_10_1", num_classes=10, mean=[0.1, 0.2, 0.3], std=[0.5, 0.5, 0.25])
    assert number_of_parameters(net) == 77_850
    assert [name for name, _ in net.named_buffers() if name.startswith("normalise")] == [
        "normalise.mean",
        "normalise.std",
    ]


def test_images_are_scaled_channel_by_channel() -> None:
    torch.manual_seed(0)
    plain = create_model("wrn_10_1", num_classes=4)
    scaled = create_model("wrn_10_1", num_classes=4, mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 2.0])
    scaled.network.load_state_dict(plain.network.state_dict())
    images = torch.rand(2, 3, 16, 16)
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.tensor([0.5, 0.25, 2.0]).view(3, 1, 1)
    torch.testing.assert_close(scaled.eval()(images), plain.eval()((images - mean) / std))


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((1, 28, 28), {"group1": (28, 28), "group2": (14, 14), "final": (7, 7)}),
        ((3, 48, 64), {"group1": (48, 64), "group2": (24, 32), "final": (12, 16)}),
        ((3, 33, 17), {"group1": (33, 17), "group2": (17, 9), "final": (9, 5)}),
    ],
)
def test_wide_residual_networks_take_other_sizes(
    shape: tuple[int, int, int], sizes: dict[str, tuple[int, int]]
) -> None:
    net = lively("wrn_10_2", in_channels=shape[0]).eval()
    output = net.run(torch.rand(2, *shape, dtype=torch.float64), list(sizes))
    assert {name: tuple(a.shape) for name, a in output.activations.items()} == {
        name: (2, width, *size) for (name, size), width in zip(sizes.items(), (32, 64, 128), strict=True)
    }
    for name, head in output.heads.items():
        torch.testing.assert_close(head(output.activations[name]), output.logits, atol=1e-9, rtol=0)


def test_small_images_keep_their_size_in_a_resnet() -> None:
    images = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    small = lively("resnet18", small_images=True).eval().run(images, ["layer1", "final"]).activations
    large = lively("resnet18").eval().run(images, ["layer1", "final"]).activations
    assert [tuple(a.shape) for a in small.values()] == [(1, 64, 32, 32), (1, 512, 4, 4)]
    assert [tuple(a.shape) for a in large.values()] == [(1, 64, 8, 8), (1, 512, 1, 1)]


@pytest.mark.parametrize("options", [{}, {"small_images": True}])
def test_resnets_take_grey_images(options: dict[str, Any]) -> None:
    net = create_model("resnet18", num_classes=5, in_channels=1, **options).eval()
    assert net(torch.rand(2, 1, 28, 28)).shape == (2, 5)


def test_dropout_acts_in_training_alone() -> None:
    net = lively("wrn_10_1", dropout=0.5)
    images = torch.rand(4, 3, 16, 16, dtype=torch.float64)
    assert [m.p for m in net.modules() if isinstance(m, torch.nn.Dropout)] == [0.5, 0.5, 0.5]
    net.train()
    assert not torch.equal(net(images), net(images))
    net.eval()
    assert torch.equal(net(images), net(images))
    without = lively("wrn_10_1").eval()
    assert torch.equal(without(images), lively("wrn_10_1", dropout=0.5).eval()(images))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("wrn_12_1", {}, r"^model 'wrn_12_1' .*`depth` must be 6n \+ 4 \(10, 16, 22, 28, 40, \.\.\.\), got 12\.$"),
        ("wrn_16_0", {}, r"^model 'wrn_16_0' .*`width` must be at least 1, got 0\.$"),
        ("resnet19", {}, r"^unknown model 'resnet19'; did you mean 'resnet18'\? .*see `distill list models`\)$"),
        ("wrn_10_1", {"dropuot": 0.1}, r"^model 'wrn_10_1' with options \{'dropuot': 0\.1\}: .*dropuot"),
        ("wrn_10_1", {"dropout": 2.0}, r"^model 'wrn_10_1' .*dropout probability has to be between 0 and 1"),
        ("no.such.module:Net", {}, r"^model 'no\.such\.module:Net' cannot be imported: "),
        ("tests.models.helpers:NoNet", {}, r"^model 'tests\.models\.helpers:NoNet' cannot be imported: .*NoNet"),
        ("tests.models.helpers:__doc__", {}, r"is not callable; it must return an nn\.Module\.$"),
    ],
)
def test_what_cannot_be_built(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        create_model(name, num_classes=10, **options)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tests.models.helpers:no_network", r"^model 'tests\.models\.helpers:no_network' .*nn\.Module, got list"),
        ("builtins:dict", r"^model 'builtins:dict' .*nn\.Module, got dict"),
    ],
)
def test_a_callable_that_makes_nothing_that_can_be_read_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        create_model(name, num_classes=10)


def test_a_network_without_maps_has_no_layer_final() -> None:
    net = create_model("tests.models.helpers:Undecided", num_classes=10)
    assert net.cuts == {}
    assert net(torch.rand(2, 3, 8, 8)).shape == (2, 10)
    with pytest.raises(ValueError, match=r"a module in its forward pass of .*Undecided, such as fc; got 'final'\. See"):
        net.run(torch.rand(2, 3, 8, 8), ["final"])


def test_classes_have_names() -> None:
    assert create_model("wrn_10_1", num_classes=2, classes=["cat", "dog"]).classes == ("cat", "dog")
    assert create_model("wrn_10_1", num_classes=3).classes == ("0", "1", "2")
