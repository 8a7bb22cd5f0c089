"""Cascading randomisation: the parts, their order, their new values, and what does not change."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from distill.models import (
    StagedNetwork,
    cascade,
    create_model,
    fold_batch_norm,
)
from tests.models.helpers import lively

ORDER = {
    "wrn_10_1": ["fc", "bn1", "block3", "block2", "block1", "conv1"],
    "resnet18": ["fc", "layer4", "layer3", "layer2", "layer1", "bn1", "conv1"],
    "tests.models.helpers:OwnNetwork": ["fc", "inner", "stem"],
    "tests.models.test_randomise:Wrapped": ["body.3", "body.0"],
    "tests.models.test_randomise:Backwards": ["scale", "last", "first"],
}


class Wrapped(nn.Module):
    """A network with one top-level part."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes)]
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), *head)

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)


class Backwards(nn.Module):
    """A network whose parts are used in another order than they are created, with a top-level parameter."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(num_classes))
        self.last = nn.Linear(4, num_classes)
        self.first = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.first(images).mean((-2, -1))) * self.scale


@pytest.mark.parametrize("name", ORDER)
def test_one_part_after_the_other_becomes_a_fresh_networks(name: str) -> None:
    network = lively(name)
    before, bytes_before = copy.deepcopy(network.state_dict()), {k: id(v) for k, v in network.named_parameters()}
    torch.manual_seed(11)
    fresh = create_model(name, num_classes=3).double().network.state_dict()
    torch.manual_seed(12)
    random_state = torch.get_rng_state()
    lost: list[str] = []
    for part, randomised in cascade(network, seed=11):
        lost.append(part)
        for key, value in randomised.network.state_dict().items():
            is_lost = any(key == one or key.startswith(f"{one}.") for one in lost)
            expected = fresh[key] if is_lost else before[f"network.{key}"]
            torch.testing.assert_close(value, expected, rtol=1e-6, atol=0, msg=f"{part}: {key}")
        assert randomised is not network
    assert lost == ORDER[name]
    assert torch.equal(torch.get_rng_state(), random_state)
    assert {k: id(v) for k, v in network.named_parameters()} == bytes_before
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_every_step_says_something_else_and_the_last_is_a_fresh_network() -> None:
    network = lively("wrn_10_1").eval()
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    said = [network(images)] + [randomised(images) for _, randomised in cascade(network, seed=3)]
    assert len({tuple(logits.flatten().tolist()) for logits in said}) == len(said)
    other = [randomised(images) for _, randomised in cascade(network, seed=4)]
    assert not torch.allclose(said[1], other[0])
    assert all(not randomised.training for _, randomised in cascade(network, seed=3))
    assert all(randomised.training for _, randomised in cascade(network.train(), seed=3))


def test_networks_can_be_kept_and_explained() -> None:
    steps = dict(cascade(lively("wrn_10_1").eval(), seed=0))
    images = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    logits = [step.run(images, ["group2"]).logits for step in steps.values()]
    assert len({float(one.detach()[0, 0]) for one in logits}) == len(logits)


def test_the_normalisation_stays() -> None:
    network = create_model("wrn_10_1", num_classes=3, mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])
    for _, randomised in cascade(network, seed=0):
        assert torch.equal(randomised.normalise.mean, network.normalise.mean)
        assert torch.equal(randomised.normalise.std, network.normalise.std)


def test_works_where_gradients_are_off() -> None:
    with torch.inference_mode():
        steps = [randomised for _, randomised in cascade(lively("wrn_10_1").eval(), seed=0)]
    logits = steps[-1](torch.rand(1, 3, 8, 8, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(logits.sum(), next(steps[-1].parameters()))
    assert float(gradient.norm()) > 0


def test_a_folded_network_is_refused() -> None:
    folded: StagedNetwork = fold_batch_norm(lively("resnet18").eval())
    with pytest.raises(ValueError, match=r"must have the parameters of a new resnet18, but they differ.*not folded"):
        next(iter(cascade(folded, seed=0)))
