"""Maps in low precision agree with those in high precision up to rounding, and are never NaN.

Maps are compared by their cosine, because sites where a ReLU changes between active and inactive differ by more than
rounding. The tolerances follow from the precision of the types:
    - float32 has 24 bits and loses a few of them in the sums of a head. The cosine must be at least 0.9999.
    - bfloat16 has 8 bits. Each rounding has a relative error of 2^-9 = 0.002, and there are about ten successive
      roundings between image and map, independent for each site. A relative error e of a map gives a cosine of about
      1 - e^2 / 2, so rounding contributes at most 1e-4. The rest comes from ReLUs that change, about one in a few
      hundred. The cosine must be at least 0.99, and 0.999 for Grad-CAM++, whose positive weights do not cancel.
    - float16 has 11 bits; the tolerances of bfloat16 are used.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from distill.explain import METHODS, Explainer
from distill.losses import explanation_loss
from distill.models import StagedNetwork, as_staged
from tests.conftest import small_network
from tests.explain.checks import inner_layer
from tests.models.own_networks import Branching, made, pictures

LABELS = torch.tensor([0, 1, 2, 1])
IMAGES = torch.rand(4, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
LAYERS = [("wrn_10_1", "group1"), ("wrn_10_1", "group2"), ("wrn_10_1", "final"), ("resnet18", "layer2")]
POSITIVE = {"positive_grad_cam", "grad_cam_pp", "activation_attention"}
BY_GRADIENTS = [name for name, method in METHODS.items() if method.needs == "gradients"]
NARROW = [torch.bfloat16, torch.float16]


def maps_in(name: str, layer: str, method: str, dtype: torch.dtype) -> Tensor:
    return Explainer(method, layer)(small_network(name, dtype), IMAGES.to(dtype), LABELS).maps


def check_agree(found: Tensor, expected: Tensor, *, cosine: float) -> None:
    """Check that maps are finite and have a high cosine, and that maps empty in high precision are near 0."""
    assert bool(found.isfinite().all())
    found, expected = found.double().flatten(1), expected.double().flatten(1)
    empty = expected.amax(1) == 0
    assert not bool(empty.all())
    assert float(F.cosine_similarity(found, expected)[~empty].amin()) >= cosine
    assert float(found[empty].sum()) <= 1e-2 * float(expected.sum())


@pytest.mark.parametrize(
    "method", ["grad_cam_pp", "positive_grad_cam", "layer_cam", "hires_cam", "activation_attention"]
)
@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_float32_agrees_with_float64(name: str, layer: str, method: str) -> None:
    expected = maps_in(name, layer, method, torch.float64)
    found = maps_in(name, layer, method, torch.float32)
    assert (expected.dtype, found.dtype) == (torch.float64, torch.float32)
    if float(expected.amax()) == 0:
        assert float(found.amax()) == 0
    else:
        check_agree(found, expected, cosine=0.9999)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("method", ["grad_cam_pp", "positive_grad_cam", "layer_cam", "activation_attention"])
@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_a_network_in_a_narrow_type(name: str, layer: str, method: str, dtype: torch.dtype) -> None:
    expected = maps_in(name, layer, method, torch.float64)
    found = maps_in(name, layer, method, dtype)
    assert found.dtype == torch.float32
    check_agree(found, expected, cosine=0.999 if method in POSITIVE else 0.99)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("gradients", ["auto", "autograd"])
@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_a_pass_under_autocast(name: str, layer: str, gradients: Any, inside: bool) -> None:
    """The head runs in the precision of its forward pass, also if the map is computed after autocast ended."""
    network = small_network(name, torch.float32)
    explainer = Explainer("grad_cam_pp", layer, gradients=gradients)
    with torch.autocast("cpu", torch.bfloat16):
        output = network.run(IMAGES.float(), [layer])
        assert output.logits.dtype == torch.bfloat16
        within = explainer.from_output(output, LABELS)
    found = within if inside else explainer.from_output(output, LABELS)
    assert torch.equal(found, within)
    assert found.dtype == torch.float32
    check_agree(found, maps_in(name, layer, "grad_cam_pp", torch.float64), cosine=0.999)


@pytest.mark.parametrize("trace", [True, False])
def test_a_network_of_ones_own_under_autocast(trace: bool) -> None:
    network = made(Branching, torch.float32)
    expected = Explainer("grad_cam_pp", "mark")(made(Branching), pictures(), LABELS).maps
    explainer = Explainer("grad_cam_pp", "mark")
    for training in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            output = as_staged(network.train(training), trace=trace).run(pictures().float(), ["mark"])
            within = explainer.from_output(output, LABELS)
            again = output.heads["mark"](output.activations["mark"])
        found = explainer.from_output(output, LABELS)
        assert torch.equal(found, within)
        assert torch.equal(output.heads["mark"](output.activations["mark"]), again)
        assert (found.dtype, again.dtype) == (torch.float32, torch.bfloat16)
        if not training:
            check_agree(found, expected, cosine=0.999)


class Seen:
    """Record the dtypes of the inputs and outputs of torch.bmm."""

    def __init__(self) -> None:
        self.types: set[torch.dtype] = set()

    def __call__(self, original: Any) -> Any:
        def bmm(*args: Tensor, **kwargs: Any) -> Tensor:
            result = original(*args, **kwargs)
            self.types |= {value.dtype for value in (*args, result)}
            return result

        return bmm


def step(network: StagedNetwork, layer: str) -> Tensor:
    """Cross-entropy and an explanation term."""
    output = network.run(IMAGES.float(), [layer])
    maps = Explainer("grad_cam_pp", layer).from_output(output, LABELS, create_graph=True)
    assert maps.dtype == torch.float32
    teacher = torch.rand(maps.shape, generator=torch.Generator().manual_seed(3))
    loss = explanation_loss(maps, teacher, normalize="l2", distance="squared_error")
    assert loss.dtype == torch.float32
    return F.cross_entropy(output.logits.float(), LABELS) + loss


@pytest.mark.parametrize("layer", ["group1", "group2", "final"])
def test_a_step_under_autocast_keeps_the_arithmetic_of_maps_wide(layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    monkeypatch.setattr(torch, "bmm", seen(torch.bmm))
    network = small_network("wrn_10_1", torch.float32).train()
    with torch.autocast("cpu", torch.bfloat16):
        narrow = step(network, layer)
    assert seen.types == {torch.float32}
    wide = step(network, layer)
    assert float((narrow - wide).detach().abs()) < 0.02 * float(wide.detach())
    found, expected = (
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))])
        for loss in (narrow, wide)
    )
    assert bool(found.isfinite().all())
    assert float(F.cosine_similarity(found, expected, dim=0)) > 0.98


@pytest.mark.parametrize("dtype", [*NARROW, torch.float32])
@pytest.mark.parametrize(("activation", "gradient"), [(1.0, 1e-6), (1e4, 1.0), (1e4, 1e-6), (1e-4, 1e-6), (1e4, 1e4)])
@pytest.mark.parametrize("method", BY_GRADIENTS)
def test_map_functions_at_the_edges(method: str, activation: float, gradient: float, dtype: torch.dtype) -> None:
    """Very small gradients and very large activations lose only the precision of the input type."""
    function = METHODS[method].function
    activations, gradients = inner_layer(3, 5, 3, 4)
    activations = (activations / activations.amax() * activation).to(dtype).requires_grad_()
    gradients = (gradients / gradients.abs().amax() * gradient).to(dtype).requires_grad_()
    found = function(activations, gradients)
    expected = function(activations.detach().double(), gradients.detach().double())
    assert found.dtype == torch.float32
    assert bool(found.isfinite().all())
    if method != "grad_cam_pp_signed":  # its denominator may vanish, and then no digit is sure
        assert float(expected.amax()) > 0
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5 * float(expected.amax()))
    first, second = torch.autograd.grad(F.normalize(found.flatten(1)).sum(), [activations, gradients])
    assert bool(first.isfinite().all())
    if dtype != torch.float16:  # the slope in a gradient of 1e-6 is beyond the largest float16
        assert bool(second.isfinite().all())


@pytest.mark.parametrize("dtype", [*NARROW, torch.float32])
@pytest.mark.parametrize("layer", ["group1", "group2", "final"])
@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_networks_at_the_edges_are_never_nan(layer: str, scale: float, dtype: torch.dtype) -> None:
    """A last layer with very small or large weights gives very small or large gradients."""
    network = small_network("wrn_10_1", dtype)
    with torch.no_grad():
        network.get_parameter("network.fc.weight").mul_(scale)
    output = network.run(IMAGES.to(dtype), [layer])
    for gradients in ("auto", "autograd"):
        how: Any = gradients
        maps = Explainer("grad_cam_pp", layer, gradients=how).from_output(output, LABELS)
        assert maps.dtype == torch.float32
        assert bool(maps.isfinite().all())
        if dtype != torch.float16 or scale > 1:  # weights of 1e-7 are below what float16 can divide
            assert float(maps.amax()) > 0
