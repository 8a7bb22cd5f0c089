"""Compare held-out methods with direct calls of Captum and autograd, and with the sums of their attributions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import captum.attr as captum
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from distill.explain import ATTRIBUTIONS, METHODS, Explainer
from distill.explain.held_out.gradient_based import deep_lift, integrated_gradients
from distill.models import StagedNetwork, as_staged
from tests.explain.held_out.networks import (
    QUICK,
    as_map,
    functional,
    resnet_with_own_relus,
    ruled_gradient,
)
from tests.explain.networks import cut_module
from tests.models.own_networks import Plain, Recorded, TwoInputs, made

ByHand = Callable[[nn.Module, Tensor, Tensor], Tensor]


def occluded(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the decrease of the logit for each window, averaged over the windows that cover a site."""
    falls, covered = torch.zeros(len(images), 1, 8, 8).double(), torch.zeros(8, 8)
    rows = torch.arange(len(images))
    for i in range(0, 5, 2):
        for j in range(0, 5, 2):
            changed = images.clone()
            changed[:, :, i : i + 4, j : j + 4] = 0
            fall = (network(images) - network(changed))[rows, labels].detach()
            falls[:, 0, i : i + 4, j : j + 4] += fall[:, None, None]
            covered[i : i + 4, j : j + 4] += 1
    return falls / covered


BY_HAND: dict[str, ByHand] = {
    "saliency": lambda net, x, y: captum.Saliency(net).attribute(x, target=y, abs=False),
    "input_x_gradient": lambda net, x, y: captum.InputXGradient(net).attribute(x, target=y),
    "integrated_gradients": lambda net, x, y: captum.IntegratedGradients(net).attribute(x, target=y, n_steps=8),
    "guided_backprop": lambda net, x, y: captum.GuidedBackprop(net).attribute(x, target=y),
    "deconvolution": lambda net, x, y: captum.Deconvolution(net).attribute(x, target=y),
    "deep_lift": lambda net, x, y: captum.DeepLift(net).attribute(x, target=y),
    "occlusion": occluded,
}


def explained(method: str, network: nn.Module, images: Tensor, labels: Tensor, layer: str = "final") -> Tensor:
    return Explainer(method, layer, options=QUICK.get(method, {}))(network, images, labels).maps


def equal(found: Tensor, expected: Tensor) -> None:
    assert float(expected.amax()) > 0
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-6, atol=1e-7 * float(expected.amax()))


@pytest.mark.filterwarnings("ignore::UserWarning:captum")
@pytest.mark.parametrize("method", BY_HAND)
def test_maps_are_captums(wrn: StagedNetwork, images: Tensor, labels: Tensor, method: str) -> None:
    expected = as_map(method, BY_HAND[method](wrn, images.clone(), labels))
    equal(explained(method, wrn, images, labels), expected)


@pytest.mark.filterwarnings("ignore::UserWarning:captum")
@pytest.mark.parametrize("layer", ["group1", "group2"])
def test_guided_grad_cam_is_captums(wrn: StagedNetwork, images: Tensor, labels: Tensor, layer: str) -> None:
    reference = captum.GuidedGradCam(wrn, cut_module(wrn, layer))
    expected = reference.attribute(images.clone(), target=labels, interpolate_mode="bilinear")
    equal(explained("guided_grad_cam", wrn, images, labels, layer), as_map("guided_grad_cam", expected))


@pytest.mark.filterwarnings("ignore::UserWarning:captum")
@pytest.mark.parametrize("method", [m for m in BY_HAND if m != "occlusion"])
def test_relus_in_place_and_called_twice_are_as_their_own_modules(
    resnet: StagedNetwork, images: Tensor, labels: Tensor, method: str
) -> None:
    larger, labels = nn.functional.interpolate(images[:2], size=32), labels[:2]
    same = resnet_with_own_relus(resnet.network.state_dict())
    equal(explained(method, resnet, larger, labels), as_map(method, BY_HAND[method](same, larger.clone(), labels)))


@pytest.mark.parametrize(("method", "guided"), [("guided_backprop", True), ("deconvolution", False)])
def test_the_rule_is_applied_to_functions_and_to_the_way_through_them_alone(
    images: Tensor, labels: Tensor, method: str, guided: bool
) -> None:
    network = functional()
    expected = ruled_gradient(network, images, labels, guided=guided)
    equal(explained(method, network, images, labels), as_map(method, expected))


class Lstsq:
    """Weighted ridge regression by NumPy: least squares with extra rows for the penalty."""

    def fit(self, train_data: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        ((inputs, outputs, weights),) = (tuple(p.double().numpy() for p in parts) for parts in train_data)
        root, features = np.sqrt(weights.reshape(-1, 1)), inputs.shape[1]
        rows = np.concatenate([root * inputs, np.eye(features)])
        intercept = np.concatenate([root, np.zeros((features, 1))])
        answers = np.concatenate([root * outputs.reshape(-1, 1), np.zeros((features, 1))])
        solution = np.linalg.lstsq(np.concatenate([rows, intercept], 1), answers, rcond=None)[0]
        self.weights = torch.from_numpy(solution[:-1, 0]).float()

    def representation(self) -> Tensor:
        return self.weights


def test_lime_is_captums_at_the_same_seed(wrn: StagedNetwork, images: Tensor, labels: Tensor) -> None:
    patches = torch.tensor([[0, 1], [2, 3]]).repeat_interleave(4, 0).repeat_interleave(4, 1)[None, None]
    expected = []
    for n in range(len(images)):
        torch.manual_seed(5)
        method = captum.Lime(wrn, interpretable_model=Lstsq())
        one, label = images[n : n + 1], labels[n : n + 1]
        expected.append(method.attribute(one, target=label, feature_mask=patches, n_samples=30).detach()[:, :1])
    found = Explainer("lime", options={"samples": 30, "patches": 2, "seed": 5})(wrn, images, labels).maps
    together = torch.cat(expected)
    assert int((together > 0).sum()) not in (0, together.numel())
    torch.testing.assert_close(found.double(), as_map("lime", together).double(), rtol=1e-4, atol=1e-6)


def test_smooth_grad_is_the_mean_of_gradients_of_noisy_copies(
    wrn: StagedNetwork, images: Tensor, labels: Tensor
) -> None:
    generator = torch.Generator().manual_seed(3)
    noise = [torch.randn(3, 8, 8, generator=generator).double() for _ in range(6)]
    maps = []
    for image, label in zip(images, labels, strict=True):
        spread = 0.2 * (image.max() - image.min())
        gradients = []
        for one in noise:
            leaf = (image + spread * one).requires_grad_()
            gradients.append(torch.autograd.grad(wrn(leaf[None])[0, label], leaf)[0])
        maps.append(torch.stack(gradients).mean(0).abs().max(0).values)
    settings = {"noise": 0.2, "samples": 6, "seed": 3}
    equal(Explainer("smooth_grad", options=settings)(wrn, images, labels).maps, torch.stack(maps))


@pytest.mark.parametrize("baseline", ["black", "mean"])
@pytest.mark.parametrize(
    ("function", "settings", "tolerance"), [(integrated_gradients, {"steps": 400}, 2e-2), (deep_lift, {}, 1e-8)]
)
def test_contributions_add_up_to_the_difference_from_the_baseline(
    function: Callable[..., Tensor],
    settings: dict[str, Any],
    tolerance: float,
    baseline: str,
    wrn: StagedNetwork,
    images: Tensor,
    labels: Tensor,
) -> None:
    nothing = {"black": torch.zeros_like(images), "mean": images.mean((2, 3), keepdim=True).expand_as(images)}
    rows = torch.arange(len(images))
    expected = (wrn(images) - wrn(nothing[baseline]))[rows, labels].detach()
    found = function(wrn, images, labels, baseline=baseline, **settings).flatten(1).sum(1)
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


# What branches and calls one ReLU twice has no DeepLIFT, see test_attribution_errors.
@pytest.mark.parametrize(
    ("kind", "method"),
    [(k, m) for k in (Plain, TwoInputs, Recorded) for m in ATTRIBUTIONS if (k, m) != (Recorded, "deep_lift")],
)
def test_any_module_can_be_explained_wrapped_or_not(
    kind: type[nn.Module], method: str, images: Tensor, labels: Tensor
) -> None:
    network = made(kind)
    maps = explained(method, network, images, labels, "mark")
    assert maps.shape == (4, 8, 8)
    assert float(maps.amin()) >= 0
    assert float(maps.amax()) > 0
    equal(explained(method, as_staged(network), images, labels, "mark"), maps)


def test_no_held_out_method_is_one_that_trains() -> None:
    assert not set(METHODS) & set(ATTRIBUTIONS)
    assert len(ATTRIBUTIONS) == 11
    assert all(about.formula and about.source for about in ATTRIBUTIONS.values())


def test_the_target_and_the_normalisation_are_those_of_every_explainer(
    wrn: StagedNetwork, images: Tensor, labels: Tensor
) -> None:
    predicted = wrn(images).argmax(1)
    found = Explainer("saliency", target="predicted")(wrn, images)
    assert found.target.tolist() == predicted.tolist()
    torch.testing.assert_close(found.logits, wrn(images).detach(), rtol=1e-12, atol=1e-13)
    equal(found.maps, explained("saliency", wrn, images, predicted))
    equal(Explainer("saliency", target=2)(wrn, images).maps, explained("saliency", wrn, images, torch.full((4,), 2)))
    both = Explainer("saliency", normalize="max")(wrn, images, torch.stack([labels, predicted], 1)).maps
    assert both.shape == (4, 2, 8, 8)
    assert both.flatten(2).amax(2).tolist() == [[1.0, 1.0]] * 4
    equal(both[:, 1] * found.maps.flatten(1).amax(1)[:, None, None], found.maps)
