"""Compare Grad-CAM++ of the softmax probability with its true derivatives, for each site."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from distill.explain import Explainer, grad_cam_pp, grad_cam_pp_softmax
from distill.models import StagedNetwork
from tests.explain.heads import staged
from tests.oracles import family as oracle

double = torch.float64
SoftmaxMap = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
TARGET = torch.tensor([0, 2, 1])
SHAPES = [(3, 2, 2, 2), (3, 2, 5), (3, 2, 2, 1, 3)]


def linear_head(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return activations, the gradients of 3 logits, and a bias of a head that is linear in the activations."""
    generator = torch.Generator().manual_seed(6)
    activations = torch.randn(*shape, dtype=double, generator=generator).relu()
    gradients = torch.randn(shape[0], 3, *shape[1:], dtype=double, generator=generator)
    return activations, gradients, torch.randn(3, dtype=double, generator=generator)


def logits_of(activations: Tensor, gradients: Tensor, bias: Tensor) -> Tensor:
    full = gradients.expand(*gradients.shape[:2], *activations.shape[1:])
    return (full * activations[:, None]).flatten(2).sum(2) + bias


def check_is_the_true_derivative(function: SoftmaxMap) -> None:
    """Check linear heads of any rank, with gradients that vary over the sites and with constant ones."""
    seen = 0
    for shape in SHAPES:
        for constant in (False, True):
            activations, gradients, bias = linear_head(*shape)
            if constant:
                gradients = gradients.flatten(3)[..., :1].view(3, 3, 2, *[1] * (len(shape) - 2)) / 2
            logits = logits_of(activations, gradients, bias)
            found = function(activations, gradients, logits, TARGET)
            for n, label in enumerate(TARGET.tolist()):
                head = partial(logits_of, gradients=gradients[n : n + 1], bias=bias)
                expected = torch.from_numpy(oracle.grad_cam_pp_softmax(head, label, activations[n : n + 1]))
                seen += bool(expected.any())
                probability = float(logits[n].softmax(0)[label])
                found_n = probability * found[n]  # the paper's Y is a factor that the function leaves out
                torch.testing.assert_close(found_n, expected, rtol=0, atol=1e-10 * float(expected.amax()))
    assert seen >= 12


def check_derivatives(function: SoftmaxMap) -> None:
    activations, gradients, bias = linear_head(2, 2, 2, 2)
    activations = activations + 0.2
    gradients = 0.15 * gradients
    gradients[torch.arange(2), TARGET[:2]] += 0.7
    logits = 0.2 * logits_of(activations, gradients, bias).detach()
    logits[torch.arange(2), TARGET[:2]] -= 2  # while a class is unlikely, all derivatives are positive
    maps = function(activations, gradients, logits, TARGET[:2])
    assert float(maps.amin()) > 1e-3
    inputs = tuple(x.requires_grad_() for x in (activations, gradients, logits))
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda a, g, z: function(a, g, z, TARGET[:2]), inputs, raise_exception=False)


def test_at_a_linear_head_it_is_the_true_derivative() -> None:
    check_is_the_true_derivative(grad_cam_pp_softmax)


def test_derivatives() -> None:
    check_derivatives(grad_cam_pp_softmax)


def small_convolutions() -> StagedNetwork:
    torch.manual_seed(5)
    layers: list[nn.Module] = [nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Conv2d(2, 4, 2, padding=1), nn.BatchNorm2d(4)]
    layers += [nn.ReLU(), nn.MaxPool2d(2, stride=1), nn.Conv2d(4, 3, 2), nn.Flatten(), nn.Linear(3, 3)]
    network = staged(nn.Sequential(*layers), training=False)
    network.normalise.mean, network.normalise.std = torch.zeros(1), torch.ones(1)
    return network


@pytest.mark.parametrize("how", ["linear", "autograd"])
def test_at_an_inner_layer_it_is_the_true_derivative(how: str) -> None:
    network = small_convolutions()
    images = torch.rand(3, 1, 3, 3, dtype=double)
    output = network.run(images, ["1"])
    explainer = Explainer("grad_cam_pp_softmax", "1", gradients=how)  # type: ignore[arg-type]
    found = explainer.from_output(output, TARGET)
    seen = 0
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for n, label in enumerate(TARGET.tolist()):
        activations = output.activations["1"][n : n + 1].detach()
        expected = torch.from_numpy(oracle.grad_cam_pp_softmax(output.heads["1"], label, activations))
        probability = float(output.logits[n].detach().softmax(0)[label])
        seen += bool(expected.any())
        torch.testing.assert_close(probability * found[n], expected, rtol=1e-9, atol=1e-12)
    assert seen >= 2


@pytest.mark.parametrize("training", [False, True])
def test_at_final_the_closed_form_is_autograd(
    wrn: StagedNetwork, images: Tensor, labels: Tensor, training: bool
) -> None:
    output = wrn.train(training).run(images, ["final"])
    parameters = list(wrn.parameters())
    found = []
    for how in ("closed_form", "linear", "autograd"):
        explainer = Explainer("grad_cam_pp_softmax", "final", gradients=how)
        maps = explainer.from_output(output, labels, create_graph=True)
        size = float(maps.detach().amax())
        assert size > 0
        loss = (maps / size).square().sum()
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
        found.append([maps.detach() / size, *gradients])
    assert sum(bool(g.any()) for g in found[2]) > len(parameters) // 2
    for other in found[:2]:
        for a, b in zip(other, found[2], strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-9 * max(float(b.abs().amax()), 1e-3))


def test_a_permutation_of_the_batch_permutes_the_maps() -> None:
    activations, gradients, bias = linear_head(3, 2, 2, 2)
    logits = logits_of(activations, gradients, bias)
    together = grad_cam_pp_softmax(activations, gradients, logits, TARGET)
    order = torch.tensor([2, 0, 1])
    found = grad_cam_pp_softmax(activations[order], gradients[order], logits[order], TARGET[order])
    torch.testing.assert_close(found, together[order], rtol=1e-12, atol=1e-14)
    for n in range(3):
        one = slice(n, n + 1)
        alone = grad_cam_pp_softmax(activations[one], gradients[one], logits[one], TARGET[one])
        torch.testing.assert_close(alone, together[one], rtol=1e-12, atol=1e-14)


def test_a_shift_of_all_logits_changes_nothing() -> None:
    activations, gradients, bias = linear_head(3, 2, 2, 2)
    logits = logits_of(activations, gradients, bias)
    expected = grad_cam_pp_softmax(activations, gradients, logits, TARGET)
    shifted = grad_cam_pp_softmax(activations, gradients + 0.7, logits + 50, TARGET)
    torch.testing.assert_close(shifted, expected, rtol=1e-9, atol=1e-12)


def test_where_the_class_is_unlikely_it_is_the_exponential_score() -> None:
    """For an unlikely class, softmax is exp(logit) over a constant: the other class's gradient is subtracted."""
    activations, gradients, _ = linear_head(3, 2, 2, 2)
    logits = torch.tensor([[-40.0, 0.0, -40.0], [-40.0, 0.0, -40.0], [-40.0, 0.0, -40.0]], dtype=double)
    target = torch.tensor([0, 2, 0])
    own = gradients[torch.arange(3), target] - gradients[:, 1]
    expected = activations.flatten(2).sum(2)[:, :, None, None] * own
    keep = own.relu() / torch.where(own > 0, 2 + expected, 1.0)
    weights = keep.flatten(2).sum(2)
    reference = torch.einsum("nk,nkhw->nhw", weights, activations).relu()
    torch.testing.assert_close(reference, grad_cam_pp(activations, own))
    found = grad_cam_pp_softmax(activations, gradients, logits, target)
    torch.testing.assert_close(found, reference, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("certainty", [0.0, 20.0, 80.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_and_certain_logits_stay_finite(certainty: float, dtype: torch.dtype) -> None:
    activations, gradients, bias = linear_head(3, 2, 2, 2)
    logits = logits_of(activations, gradients, bias)
    logits[torch.arange(3), TARGET] += certainty
    leaves = [x.to(dtype).requires_grad_() for x in (activations, gradients, logits)]
    maps = grad_cam_pp_softmax(leaves[0], leaves[1], leaves[2], TARGET)
    assert maps.dtype == torch.float32
    derivatives = torch.autograd.grad(maps.sum(), leaves)
    assert all(bool(x.isfinite().all()) for x in (maps.detach(), *derivatives))
    assert bool(maps.detach().any()) or certainty > 0


def test_a_class_that_nothing_moves_has_an_empty_map() -> None:
    activations, gradients, bias = linear_head(3, 2, 2, 2)
    same = gradients[:, :1].expand_as(gradients).contiguous().requires_grad_()
    maps = grad_cam_pp_softmax(activations, same, bias.expand(3, 3), TARGET)
    assert not bool(maps.detach().any())
    (derivative,) = torch.autograd.grad(maps.sum(), same)
    assert bool(derivative.isfinite().all())


def test_logits_of_other_classes_are_refused(unchecked: None) -> None:
    activations, gradients, _ = linear_head(3, 2, 2, 2)
    with pytest.raises(ValueError, match=r"classes.*\(3, 4\)"):
        grad_cam_pp_softmax(activations, gradients, torch.zeros(3, 4, dtype=double), TARGET)


def test_a_score_that_is_no_class_is_refused(wrn: StagedNetwork, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"grad_cam_pp_softmax.*one class"):
        Explainer("grad_cam_pp_softmax", "final", target=[0, 1])(wrn, images)
