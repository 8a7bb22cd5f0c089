"""The explanation term alone has a gradient for every parameter that it depends on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distill.explain import Explainer
from distill.explain import grad_cam_pp as grad_cam_pp_function
from distill.models import StagedNetwork
from distill.types import StagedOutput
from tests.explain.flow import Term, check_gradients_reach, grad_cam_pp, slope
from tests.explain.networks import Stacked

# The last bias and the biases of batch normalisation in the head move no gradient, only masks.
ZERO = {
    "final": {"network.fc.bias"},
    "group2": {"network.fc.bias", "network.bn1.bias", "network.block3.layer.0.bn2.bias"},
    "group1": {
        "network.fc.bias",
        "network.bn1.bias",
        "network.block3.layer.0.bn2.bias",
        "network.block3.layer.0.bn1.bias",
        "network.block2.layer.0.bn2.bias",
    },
}
TARGET = torch.tensor([0, 2])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("layer", ["final", "group2", "group1"])
def test_gradients_equal_finite_differences(wrn: StagedNetwork, images: Tensor, layer: str, training: bool) -> None:
    term = Term(grad_cam_pp, wrn.train(training), layer, images[:2], TARGET)
    check_gradients_reach(term, zero=ZERO[layer])


@pytest.mark.parametrize("layer", ["final", "group2", "group1"])
def test_through_autograd_as_well(wrn: StagedNetwork, images: Tensor, layer: str) -> None:
    def explain(output: StagedOutput, name: str, target: Tensor) -> Tensor:
        return Explainer("grad_cam_pp", name, gradients="autograd").from_output(output, target, create_graph=True)

    check_gradients_reach(Term(explain, wrn, layer, images[:2], TARGET), zero=ZERO[layer])


@pytest.mark.parametrize("layer", ["layer3", "final"])
def test_a_resnet_along_one_direction_of_all_parameters(resnet: StagedNetwork, images: Tensor, layer: str) -> None:
    larger = torch.nn.functional.interpolate(images[:2], size=48)
    term = Term(grad_cam_pp, resnet, layer, larger, TARGET)
    parameters: list[Tensor] = list(resnet.parameters())
    gradients = torch.autograd.grad(term(), parameters, allow_unused=True, materialize_grads=True)
    size = float(torch.stack([g.norm() for g in gradients]).norm())
    assert size > 1e-3
    expected = slope(term, parameters, [g / size for g in gradients])
    assert expected == pytest.approx(size, rel=1e-5)


def detached_weights(output: StagedOutput, layer: str, target: Tensor) -> Tensor:
    activations = output.activations[layer]
    leaf = activations.detach().requires_grad_()
    score = output.heads[layer](leaf).gather(1, target[:, None]).sum()
    return grad_cam_pp_function(activations, torch.autograd.grad(score, leaf)[0])


def detached_activations(output: StagedOutput, layer: str, target: Tensor) -> Tensor:
    still = StagedOutput(output.logits, {layer: output.activations[layer].detach()}, output.heads)
    return grad_cam_pp(still, layer, target)


@pytest.mark.parametrize("fault", [detached_weights, detached_activations])
@pytest.mark.parametrize("layer", ["final", "group2", "group1"])
def test_a_detached_part_is_found(wrn: StagedNetwork, images: Tensor, layer: str, fault: object) -> None:
    assert callable(fault)
    intact = Term(grad_cam_pp, wrn, layer, images[:2], TARGET)
    broken = Term(fault, wrn, layer, images[:2], TARGET)
    assert float(broken().detach()) == pytest.approx(float(intact().detach()), rel=1e-12)
    with pytest.raises(AssertionError):
        check_gradients_reach(broken, zero=ZERO[layer])


@pytest.mark.parametrize("layer", ["final", "group2", "group1"])
def test_detached_weights_point_elsewhere(wrn: StagedNetwork, images: Tensor, layer: str) -> None:
    parameters = list(wrn.parameters())
    flat = []
    for explain in (grad_cam_pp, detached_weights):
        loss = Term(explain, wrn, layer, images[:2], TARGET)()
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        flat.append(torch.cat([g.flatten() for g in gradients]))
    assert float(torch.cosine_similarity(flat[0], flat[1], dim=0)) < 0.999


def test_through_a_head_that_is_not_piecewise_linear() -> None:
    """For a nonlinear head, the gradient of the score and so the channel weights depend on the activations."""
    convolution = torch.nn.Conv2d(3, 4, 2, dtype=torch.float64)
    head = torch.nn.Sequential(convolution, torch.nn.Softplus(), torch.nn.Flatten(), torch.nn.LazyLinear(3))
    head = head.double()
    activations = torch.rand(2, 3, 3, 3, dtype=torch.float64) + 0.2
    logits = head(activations).detach()

    def explain(values: Tensor) -> Tensor:
        output = StagedOutput(logits, {"inner": values}, {"inner": Stacked(head)})
        return grad_cam_pp(output, "inner", TARGET)

    assert float(explain(activations).detach().amax()) > 1e-3
    assert torch.autograd.gradcheck(explain, (activations.requires_grad_(),))
