"""The linear backward: wrong rules are detected, and unsupported heads fall back to autograd."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distill.explain import Explainer
from distill.explain import gradients as module
from distill.models.staged_head import StagedHead
from tests.explain.heads import make, staged
from tests.explain.test_linear_backward import check_equals_autograd


def rule(name: str, change: Callable[[Any, Tensor], Tensor]) -> Callable[[StagedHead], None]:
    """Return a function that replaces the rules of one name in a head with a fault."""

    def plant(head: StagedHead) -> None:
        rules = head.cut.pull_back.rules
        replaced = [node for node, known in rules.items() if known.__name__ == name]
        assert replaced
        for node in replaced:
            rules[node] = change

    return plant


def all_open(step: Any, cotangent: Tensor) -> Tensor:
    return cotangent


def without_epsilon(step: Any, cotangent: Tensor) -> Tensor:
    scale = step.statistics[step.name][1].rsqrt()
    scale = scale if step.module.weight is None else scale * step.module.weight
    scaled: Tensor = cotangent * scale.view(1, -1, 1, 1)
    return scaled


def to_every_largest(step: Any, cotangent: Tensor) -> Tensor:
    """Spread the gradient evenly over the window, as in average pooling."""
    p = step.module
    grown = step.input.detach().requires_grad_()
    pooled = nn.functional.avg_pool2d(grown, p.kernel_size, p.stride, p.padding)
    (spread,) = torch.autograd.grad(pooled, grown, cotangent.detach())
    return spread


def detached(step: Any, cotangent: Tensor) -> Tensor:
    return nn.functional.linear(cotangent, step.module.weight.detach().t())


def first_only(step: Any, cotangent: Tensor) -> Tensor:
    given = torch.zeros_like(step.input)
    given[:, :, ::2, ::2] = nn.functional.interpolate(cotangent, size=given[:, :, ::2, ::2].shape[2:])
    return given


def below_six(step: Any, cotangent: Tensor) -> Tensor:
    """Treat ReLU6 as ReLU."""
    return torch.where(step.output > 0, cotangent, 0)


def slope_as_constant(step: Any, cotangent: Tensor) -> Tensor:
    slope: Tensor = torch.ops.aten.hardswish_backward(cotangent, step.input.detach())
    return slope


def sum_of_sites(step: Any, cotangent: Tensor) -> Tensor:
    return cotangent.reshape(*cotangent.shape[:2], 1, 1)


@pytest.mark.parametrize(
    "plant",
    [
        rule("_relu6", below_six),
        rule("_hardswish", all_open),
        rule("_hardswish", slope_as_constant),
        rule("_global_pooling", sum_of_sites),
    ],
)
def test_a_wrong_rule_of_an_activation_function_is_found(plant: Callable[[StagedHead], None]) -> None:
    network, images = make("mobile", training=True)
    output = network.run(images, ["2"])
    check_equals_autograd(output, "2", network, torch.arange(4) % 3, how="linear")
    head = output.heads["2"]
    assert isinstance(head, StagedHead)
    plant(head)
    with pytest.raises(AssertionError):
        check_equals_autograd(output, "2", network, torch.arange(4) % 3, how="linear")


@pytest.mark.parametrize(
    "plant",
    [
        rule("_relu", all_open),
        rule("_batch_norm", without_epsilon),
        rule("_max_pooling", to_every_largest),
        rule("_linear", detached),
        rule("_adaptive_pooling", first_only),
    ],
)
def test_a_wrong_rule_is_found(plant: Callable[[StagedHead], None]) -> None:
    network, images = make("vgg", training=False)
    output = network.run(images, ["1"])
    score = torch.arange(3)
    check_equals_autograd(output, "1", network, score, how="linear")
    head = output.heads["1"]
    assert isinstance(head, StagedHead)
    plant(head)
    with pytest.raises(AssertionError):
        check_equals_autograd(output, "1", network, score, how="linear")


class Curved(nn.Module):
    """A network with a nonlinear head, which has no linear backward."""

    def __init__(self, curve: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), curve)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.layers(x).mean((2, 3)))
        return logits


@pytest.fixture
def _never_said() -> Iterator[None]:
    module._warn_once.cache_clear()
    yield
    module._warn_once.cache_clear()


@pytest.mark.usefixtures("_never_said")
@pytest.mark.parametrize("curve", [nn.Softplus(), nn.GELU()])
def test_an_unknown_operation_falls_back_to_autograd_and_says_so_once(curve: nn.Module) -> None:
    network = staged(Curved(curve), training=False)
    images, labels = torch.rand(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 2])
    with pytest.warns(UserWarning, match="autograd.*no linear backward for layers.3") as said:
        first = Explainer("grad_cam_pp", "layers.1")(network, images, labels).maps
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = Explainer("grad_cam_pp", "layers.1")(network, images, labels).maps
    expected = Explainer("grad_cam_pp", "layers.1", gradients="autograd")(network, images, labels).maps
    assert float(expected.amax()) > 0
    for maps in (first, again):
        torch.testing.assert_close(maps, expected, rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match=r"linear.*layers\.3; use 'auto'"):
        Explainer("grad_cam_pp", "layers.1", gradients="linear")(network, images, labels)


@pytest.mark.usefixtures("_never_said")
def test_a_slope_after_batch_statistics_falls_back_to_autograd() -> None:
    network = staged(Curved(nn.Sequential(nn.BatchNorm2d(4), nn.Hardswish())), training=True)
    images, labels = torch.rand(2, 3, 12, 12, dtype=torch.float64), torch.tensor([0, 2])
    with pytest.raises(ValueError, match=r"no linear backward for layers\.3\.1; use 'auto'"):
        Explainer("grad_cam", "layers.1", gradients="linear")(network, images, labels)
    with pytest.warns(UserWarning, match="autograd"):
        Explainer("grad_cam", "layers.1")(network, images, labels)


@pytest.mark.usefixtures("_never_said")
def test_active_dropout_in_the_head_falls_back_to_autograd() -> None:
    network, images = make("vgg", training=True)
    dropout = network.network.get_submodule("12")
    assert isinstance(dropout, nn.Dropout)
    dropout.p = 0.5
    output = network.run(images, ["10"])
    with pytest.warns(UserWarning, match="dropout"):
        found = Explainer("grad_cam", "10").from_output(output, torch.arange(3))
    with pytest.raises(ValueError, match="dropout"):
        Explainer("grad_cam", "10", gradients="linear").from_output(output, torch.arange(3))
    dropout.p = 0.0
    expected = Explainer("grad_cam", "10", gradients="linear").from_output(network.run(images, ["10"]), torch.arange(3))
    torch.testing.assert_close(found, expected)
