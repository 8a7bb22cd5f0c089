"""New random weights of networks that cannot be built again: objects, and modules that were not imported by a name."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from torch import Tensor, nn

from distill.models import cascade, stage_network
from distill.models.reinitialise import reinitialise
from tests.models.helpers import OwnNetwork


class Scaled(nn.Module):
    """A network with a parameter of its own, and a part that asks for arguments to be initialised."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.linspace(2, 4, 1000))
        self.table = nn.Parameter(torch.arange(3), requires_grad=False)
        self.attention = nn.MultiheadAttention(4, 2)
        self.fc = Asking(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.conv(images)).mean((-2, -1))
        return self.fc(x + self.attention(x, x, x)[0]) * self.scale.mean()


class Asking(nn.Linear):
    def reset_parameters(self, std: float = 1.0, *, seed: int | None = None) -> None:
        super().reset_parameters()


class Strict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((4,), 3.0))

    def reset_parameters(self, std: float) -> None:
        raise AssertionError(std)

    def forward(self, images: Tensor) -> Tensor:
        if images.sum() > 0:  # cannot be traced
            return images.mean((-2, -1)) * self.weight[:3]
        return images.mean((-2, -1))


@pytest.mark.parametrize("name", ["object:tests.Own#0123456789ab", "mine", "missing_package.nets:build"])
def test_an_object_gets_new_weights_part_by_part(name: str) -> None:
    network = stage_network(OwnNetwork(3), name=name, num_classes=3).eval()
    before = copy.deepcopy(network.state_dict())
    random_state = torch.get_rng_state()
    steps = dict(cascade(network, seed=5))
    assert list(steps) == ["fc", "inner", "stem"]
    again = dict(cascade(network, seed=5))["stem"].state_dict()
    others = dict(cascade(network, seed=6))["stem"].state_dict()
    last = steps["stem"].state_dict()
    for key, value in last.items():
        assert torch.equal(value, again[key])
        if value.is_floating_point() and "conv" in key:
            assert not torch.equal(value, others[key])
    assert not torch.equal(last["network.stem.weight"], before["network.stem.weight"])
    assert torch.equal(steps["fc"].state_dict()["network.stem.weight"], before["network.stem.weight"])
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_modules_are_initialised_by_their_own_method_and_other_parameters_are_drawn() -> None:
    network = Scaled()
    trained = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in trained.conv.parameters():
            parameter.fill_(9)
        trained.norm.weight.fill_(9)
        trained.norm.running_mean.fill_(9)  # type: ignore[union-attr]
        trained.attention.in_proj_bias.fill_(9)
        trained.attention.out_proj.bias.fill_(9)
    torch.manual_seed(0)
    fresh = reinitialise(trained)
    assert float(fresh.conv.weight.detach().abs().max()) < 1
    assert torch.equal(fresh.norm.weight, torch.ones(4))
    assert torch.equal(fresh.norm.running_mean, torch.zeros(4))  # type: ignore[arg-type]
    assert not fresh.attention.in_proj_bias.any()
    assert not fresh.attention.out_proj.bias.any()
    assert not torch.equal(fresh.fc.weight, trained.fc.weight)
    assert not torch.equal(fresh.scale, trained.scale)
    assert float(fresh.scale.detach().mean()) == pytest.approx(3, abs=0.1)
    assert float(fresh.scale.detach().std()) == pytest.approx(float(trained.scale.detach().std()), rel=0.1)
    assert torch.equal(fresh.table, trained.table)
    assert float(trained.norm.weight.detach()[0]) == 9


def test_a_network_that_cannot_be_traced_and_a_method_that_needs_arguments() -> None:
    network = stage_network(nn.Sequential(nn.Conv2d(3, 3, 1), Strict()), name="object:x.Y#0", num_classes=3)
    steps = dict(cascade(network, seed=0))
    assert list(steps) == ["1", "0"]
    assert torch.equal(steps["1"].network[1].weight, torch.full((4,), 3.0))  # type: ignore[index]


def test_a_named_network_is_not_imported_again(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "tests.models.own_networks:anything"
    monkeypatch.delitem(sys.modules, "tests.models.own_networks", raising=False)
    network = stage_network(OwnNetwork(3), name=name, num_classes=3)
    assert list(dict(cascade(network, seed=0))) == ["fc", "inner", "stem"]
    assert "tests.models.own_networks" not in sys.modules
