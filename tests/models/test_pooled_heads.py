"""Every usual way to write global average pooling and a linear layer is recognised, and has the maps of autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.explain import Explainer
from distill.models import as_staged, stage_network

IMAGES = torch.rand(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 2, 1])


class Network(nn.Module):
    """Two layers, a function as pooling, and a linear layer."""

    def __init__(self, pool: Callable[[Tensor], Tensor] | nn.Module, features: int = 5) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv, self.relu = nn.Conv2d(3, 5, 3, padding=1), nn.ReLU()
        self.last, self.top = nn.Conv2d(5, 5, 3, padding=1), nn.ReLU()
        self.pool = pool
        self.fc = nn.Linear(features, 3)
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.pool(self.top(self.last(self.relu(self.conv(images))))))


GLOBAL: dict[str, Callable[[Tensor], Tensor] | nn.Module] = {
    "adaptive, Flatten": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "adaptive tuple, Dropout": nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Dropout(0.5)),
    "AvgPool2d(8), Flatten": nn.Sequential(nn.AvgPool2d(8), nn.Identity(), nn.Flatten()),
    "Flatten(2), AdaptiveAvgPool1d": nn.Sequential(nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten()),
    "flatten(1)": lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
    "torch.flatten": lambda x: torch.flatten(F.adaptive_avg_pool2d(x, output_size=(1, 1)), start_dim=1),
    "view": lambda x: F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1),
    "view of shape": lambda x: F.adaptive_avg_pool2d(x, (1, 1)).view(x.shape[0], x.shape[1]),
    "view of len": lambda x: F.adaptive_avg_pool2d(x, 1).view(len(x), -1),
    "view of -1 and a number": lambda x: F.adaptive_avg_pool2d(x, 1).view(-1, 5),
    "reshape": lambda x: F.adaptive_avg_pool2d(x, 1).reshape((x.size(0), -1)),
    "torch.reshape": lambda x: torch.reshape(F.adaptive_avg_pool2d(x, 1), (x.size(0), -1)),
    "squeeze": lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(),
    "squeeze twice": lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1),
    "squeeze dims": lambda x: torch.squeeze(F.adaptive_avg_pool2d(x, 1), (2, 3)),
    "[:, :, 0, 0]": lambda x: F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0],
    "[..., 0, 0]": lambda x: F.adaptive_avg_pool2d(x, 1)[..., 0, 0],
    "mean": lambda x: x.mean((2, 3)),
    "mean of a list": lambda x: x.mean([-2, -1]),
    "mean by keyword": lambda x: x.mean(dim=(-1, -2)),
    "mean with keepdim": lambda x: x.mean((2, 3), keepdim=True).flatten(1),
    "torch.mean": lambda x: torch.mean(x, dim=[2, 3]),
    "mean twice": lambda x: x.mean(-1).mean(-1),
    "mean twice, other order": lambda x: x.mean(2).mean(2),
    "flatten(2).mean(2)": lambda x: x.flatten(2).mean(2),
    "flatten(2).mean(-1)": lambda x: torch.flatten(x, 2).mean(-1),
    "view and mean": lambda x: x.view(x.size(0), x.size(1), -1).mean(2),
    "view of numbers and mean": lambda x: x.view(x.size(0), 5, -1).mean(2),
    "unpacked shape": lambda x: _unpacked(x),
    "F.avg_pool2d(8)": lambda x: F.avg_pool2d(x, 8).view(x.size(0), -1),
    "F.avg_pool2d of size": lambda x: F.avg_pool2d(x, x.size()[2:]).view(x.size(0), -1),
    "F.avg_pool2d of shape": lambda x: F.avg_pool2d(x, kernel_size=x.shape[-2:]).flatten(1),
    "F.avg_pool2d of width": lambda x: F.avg_pool2d(x, x.size(3)).squeeze(3).squeeze(2),
    "permute and mean": lambda x: x.permute(0, 2, 3, 1).mean((1, 2)),
    "contiguous": lambda x: x.mean((2, 3)).contiguous(),
    "inactive dropout": lambda x: F.dropout(x.mean((2, 3)), 0.5, training=False),
}


def _unpacked(x: Tensor) -> Tensor:
    n, k, _, _ = x.shape
    return x.reshape(n, k, -1).mean(-1)


OTHER: dict[str, tuple[Callable[[Tensor], Tensor] | nn.Module, int]] = {
    "a quarter of the map": (lambda x: F.avg_pool2d(x, 4).view(x.size(0), -1), 20),
    "AvgPool2d(4), Flatten": (nn.Sequential(nn.AvgPool2d(4), nn.Flatten()), 20),
    "a corner of the map": (lambda x: F.avg_pool2d(x, 5).view(x.size(0), -1), 5),
    "padding": (lambda x: F.avg_pool2d(x, 8, stride=8, padding=2).view(x.size(0), -1), 5),
    "divisor": (lambda x: F.avg_pool2d(x, 8, divisor_override=3).view(x.size(0), -1), 5),
    "maximum": (lambda x: F.adaptive_max_pool2d(x, 1).flatten(1), 5),
    "one site": (lambda x: x[:, :, 0, 0], 5),
    "one axis": (lambda x: x.mean(3).flatten(1), 40),
    "mean of the channels": (lambda x: x.mean(1).flatten(1), 64),
    "mean of rows and channels": (lambda x: x.mean((1, 2)), 8),
    "view mixes channels": (lambda x: x.view(x.size(0), 64, 5).mean(1), 5),
    "permuted view": (lambda x: x.permute(0, 2, 3, 1).reshape(x.size(0), 5, -1).mean(2), 5),
    "twice the value": (lambda x: x.mean((2, 3)) * 2, 5),
    "shuffle of channels": (
        lambda x: x.view(x.size(0), 1, 5, x.size(2), x.size(3)).transpose(1, 2).amax((1, 2)).flatten(1),
        64,
    ),
    "square": (lambda x: x.pow(2).mean((2, 3)), 5),
    "sum of two poolings": (lambda x: x.mean((2, 3)) + x.amax((2, 3)), 5),
}


def by_autograd(network: nn.Module, method: str) -> Tensor:
    return Explainer(method, "top", gradients="autograd")(as_staged(network), IMAGES, LABELS).maps


@pytest.mark.filterwarnings("ignore:computing gradients by autograd")
@pytest.mark.parametrize("name", GLOBAL)
def test_global_pooling_is_recognised_and_equals_autograd(name: str) -> None:
    network = Network(GLOBAL[name]).eval()
    net = stage_network(network, name="own", num_classes=3)
    assert net.cuts == {"final": "top"}
    output = net.run(IMAGES, ["final", "relu"])
    assert tuple(output.heads) == ("final", "relu")
    assert output.heads["final"].classifier is network.fc
    assert as_staged(network).run(IMAGES, ["top"]).heads["top"].classifier is network.fc
    for method in ("grad_cam", "grad_cam_pp"):
        for how in ("closed_form", "auto"):
            maps = Explainer(method, "final", gradients=how)(net, IMAGES, LABELS).maps
            torch.testing.assert_close(maps, by_autograd(network, method), atol=1e-12, rtol=0)
    for method in ("grad_cam", "grad_cam_pp"):
        inner = Explainer(method, "relu")(net, IMAGES, LABELS).maps
        expected = Explainer(method, "relu", gradients="autograd")(net, IMAGES, LABELS).maps
        torch.testing.assert_close(inner, expected, atol=1e-12, rtol=0)
    part = output.heads["relu"](output.activations["relu"][1:])
    torch.testing.assert_close(part, output.logits[1:], atol=1e-12, rtol=0)


@pytest.mark.filterwarnings("ignore:computing gradients by autograd")
@pytest.mark.parametrize("name", OTHER)
def test_other_heads_are_not_taken_for_global_pooling(name: str) -> None:
    pool, features = OTHER[name]
    network = Network(pool, features).eval()
    head = as_staged(network).run(IMAGES, ["top"]).heads["top"]
    assert head.classifier is None
    maps = Explainer("grad_cam", "top")(as_staged(network), IMAGES, LABELS).maps
    torch.testing.assert_close(maps, by_autograd(network, "grad_cam"), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["a quarter of the map", "AvgPool2d(4), Flatten", "one axis"])
def test_a_head_that_is_not_global_pooling_has_no_final_layer(name: str) -> None:
    pool, features = OTHER[name]
    assert stage_network(Network(pool, features), name="own", num_classes=3).cuts == {}


def test_the_last_map_is_final_without_a_closed_form_if_one_site_of_it_is_read() -> None:
    pool, features = OTHER["one site"]
    network = stage_network(Network(pool, features).eval(), name="own", num_classes=3)
    assert network.cuts == {"final": "top"}
    assert network.run(IMAGES, ["final"]).heads["final"].classifier is None


def test_pooling_after_a_window_is_global_pooling_of_the_windows() -> None:
    pool = nn.Sequential(nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert stage_network(Network(pool), name="own", num_classes=3).cuts == {"final": "pool.0"}


def test_a_head_takes_sizes_of_earlier_values_from_the_forward_pass() -> None:
    class Early(Network):
        def forward(self, images: Tensor) -> Tensor:
            n, _, height, width = images.shape
            x = self.last(self.relu(self.conv(images))[:, :, ::2, ::2])
            x = F.interpolate(self.top(x), size=(height, width))
            return self.fc(x.mean((2, 3)).view(n, -1))

    network = Early(lambda x: x).eval()
    output = as_staged(network).run(IMAGES, ["relu"])
    for part in (slice(0, 3), slice(1, 2)):
        logits = output.heads["relu"](output.activations["relu"][part])
        torch.testing.assert_close(logits, output.logits[part], atol=1e-12, rtol=0)
    torch.testing.assert_close(output.logits, network(IMAGES), atol=1e-12, rtol=0)


@pytest.mark.filterwarnings("ignore:computing gradients by autograd")
def test_a_head_with_a_fixed_kernel_has_no_closed_form_for_larger_maps() -> None:
    network = Network(lambda x: F.avg_pool2d(x, 8).view(x.size(0), -1)).eval()
    images = torch.rand(2, 3, 11, 11, dtype=torch.float64)
    net = stage_network(network, name="own", num_classes=3)
    assert net.run(images, ["final"]).heads["final"].classifier is None
    found = Explainer("grad_cam", "final")(net, images, LABELS[:2]).maps
    expected = Explainer("grad_cam", "top", gradients="autograd")(as_staged(network), images, LABELS[:2]).maps
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_a_number_of_clips_is_not_taken_for_the_number_of_frames() -> None:
    class Clips(Network):
        def forward(self, images: Tensor) -> Tensor:
            clips = images.size(0)
            x = self.top(self.last(self.relu(self.conv(images.reshape(-1, 3, 8, 8)))))
            return self.fc(x.mean((2, 3)).view(clips, -1, 5).mean(1))

    network = Clips(lambda x: x).eval()
    output = as_staged(network).run(torch.cat([IMAGES, IMAGES.flip(3)], 1), ["top"])
    assert output.activations["top"].shape[0] == 6
    assert output.heads["top"].classifier is None
    torch.testing.assert_close(output.heads["top"](output.activations["top"]), output.logits, atol=1e-12, rtol=0)
