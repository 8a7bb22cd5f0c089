"""The layer `final` of small networks whose last feature map is known from their code."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.models.final_layer import find_final, try_network
from distill.models.graph import try_trace


class Pooled(nn.Module):
    """Convolutions, a function for the last ReLU, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3))
        self.head = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.relu(self.features(images)).mean((2, 3)))


class ClassToken(nn.Module):
    """Two steps of attention; the logits are read from the first token after the second."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.first = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.second = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 3)
        nn.init.zeros_(self.fc.weight)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
        if float(tokens.sum()) > 1e9:
            tokens = -tokens
        return self.fc(self.norm(self.second(self.first(tokens)))[:, 0])


def maps_of_classes() -> nn.Module:
    body = [nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True)]
    return nn.Sequential(*body, nn.Dropout(), nn.Conv2d(6, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def pooled_in_windows() -> nn.Module:
    body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.SiLU(), nn.MaxPool2d(2))
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(54, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("network", "traced", "hooked"),
    [
        (Pooled(), "relu", "features"),
        (maps_of_classes(), "1", "1"),
        (pooled_in_windows(), "0.2", "0.2"),
        (ClassToken(), None, "first"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3)), None, None),
    ],
    ids=["functional", "classes", "windows", "class token", "no maps"],
)
def test_the_last_feature_map_before_the_pooling(network: nn.Module, traced: str | None, hooked: str | None) -> None:
    state = {name: value.clone() for name, value in network.state_dict().items()}
    graph = try_trace(network)[0]
    if graph is not None:
        assert find_final(network, graph=graph) == ({} if traced is None else {"final": traced})
    before = torch.random.get_rng_state()
    assert find_final(network) == ({} if hooked is None else {"final": hooked})
    assert torch.equal(torch.random.get_rng_state(), before)
    assert network.training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_layer_is_found_where_gradients_are_off(mode: type) -> None:
    network = pooled_in_windows()
    with mode():
        assert find_final(network) == {"final": "0.2"}


def test_signs_are_measured() -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    trial = try_network(network, in_channels=3, size=32)
    assert [(one.path, one.negative) for one in trial.outputs] == [("0", True), ("1", True), ("2", False)]
