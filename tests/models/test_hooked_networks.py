"""Networks that torch.fx cannot trace have the maps, gradients and layers of the same network without branches."""

from __future__ import annotations

import copy
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distill.errors import InputWarning
from distill.explain import Explainer
from distill.models import StagedNetwork, stage_network
from distill.models import staged as staged_module
from tests.conftest import randomize_statistics


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.inner = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.drop = nn.Dropout(0.5)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Any:
        return self.fc(self.drop(self.pool(self.inner(self.stem(images))).flatten(1)))


class Branching(Plain):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images) if float(images.sum()) < 1e9 else super().forward(-images)


class Record(Branching):
    def forward(self, images: Tensor) -> Any:
        return SimpleNamespace(logits=super().forward(images), hidden=images)


def pair(kind: type[Plain]) -> tuple[StagedNetwork, StagedNetwork]:
    torch.manual_seed(0)
    plain, other = Plain().double(), kind().double()
    randomize_statistics(plain)
    other.load_state_dict(plain.state_dict())
    networks = [stage_network(one, name=type(one).__name__, num_classes=4).double() for one in (plain, other)]
    return networks[0], networks[1]


IMAGES, LABELS = torch.rand(5, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0])


@pytest.mark.parametrize("kind", [Branching, Record])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("layer", ["stem", "inner", "final"])
def test_maps_and_their_gradients_equal_those_of_the_traced_network(
    kind: type[Plain], training: bool, layer: str
) -> None:
    results = []
    for net in pair(kind):
        net.train(training)
        torch.manual_seed(3)
        output = net.run(IMAGES, [layer])
        maps = Explainer("grad_cam_pp", layer).from_output(output, LABELS, create_graph=True)
        (maps.pow(2).sum() + (0 if training else 1) * output.logits.pow(2).sum()).backward()
        gradients = {name: p.grad for name, p in net.network.named_parameters() if p.grad is not None}
        results.append((maps.detach(), gradients, copy.deepcopy(net.network.state_dict())))
    (maps, gradients, state), (others, other_gradients, other_state) = results
    assert float(maps.abs().max()) > 0
    torch.testing.assert_close(others, maps, rtol=1e-9, atol=1e-12)
    for name, expected in gradients.items():
        torch.testing.assert_close(
            other_gradients.get(name, torch.zeros_like(expected)), expected, rtol=1e-8, atol=1e-12
        )
    for name, expected in state.items():  # batch statistics are updated once
        torch.testing.assert_close(other_state[name], expected)


def test_what_is_used_is_said_once() -> None:
    staged_module._SAID.discard("Branching")
    _, net = pair(Branching)
    with pytest.warns(
        InputWarning, match=r"'Branching' cannot be traced by torch.fx .* read by hooks .* second forward"
    ):
        net.run(IMAGES, ["inner"])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error", InputWarning)
        copy.deepcopy(net).eval().run(IMAGES, ["inner"])


def test_layers_are_modules_and_the_closest_are_named() -> None:
    _, net = pair(Branching)
    net.check_layer("stem.0")
    assert net.is_cut("inner")
    assert net.cuts == {"final": "inner"}
    with pytest.raises(
        ValueError, match=r"one of final for Branching, or .*such as inner.*; got 'iner'\. See `distill"
    ):
        net.check_layer("iner")


def test_an_object_with_logits_is_a_network() -> None:
    plain, record = pair(Record)
    assert torch.equal(record.eval()(IMAGES), plain.eval()(IMAGES))
    assert torch.equal(record.run(IMAGES).logits, plain.run(IMAGES).logits)
