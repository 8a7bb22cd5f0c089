"""The map of a sample does not depend on the other samples, in evaluation and in training mode."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distill.explain import Explainer, grad_cam_pp
from distill.models import StagedNetwork
from distill.types import StagedOutput
from tests.explain.networks import WRN_CUTS, live_head, own_gradients, sample


def check_alone_equals_batch(output: StagedOutput, layer: str, target: Tensor) -> None:
    """Check that each map is computed from the activations and the score of its sample alone."""
    explainer = Explainer("grad_cam_pp", layer)
    together = explainer.from_output(output, target)
    assert float(together.flatten(1).amax(1).amin()) > 0
    for n in range(len(target)):
        alone = explainer.from_output(sample(output, layer, n), target[n : n + 1])
        torch.testing.assert_close(alone, together[n : n + 1], rtol=1e-12, atol=1e-14)
    expected = grad_cam_pp(output.activations[layer].detach(), own_gradients(output, layer, target))
    torch.testing.assert_close(together, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("layer", WRN_CUTS)
def test_in_evaluation_a_map_alone_equals_its_map_in_a_batch(
    wrn: StagedNetwork, images: Tensor, labels: Tensor, layer: str
) -> None:
    check_alone_equals_batch(wrn.run(images, [layer]), layer, labels)
    explainer = Explainer("grad_cam_pp", layer)
    together = explainer(wrn, images, labels).maps
    for n in range(4):
        alone = explainer(wrn, images[n : n + 1], labels[n : n + 1]).maps
        torch.testing.assert_close(alone, together[n : n + 1], rtol=1e-12, atol=1e-12)
    order = torch.tensor([2, 0, 3, 1])
    found = explainer(wrn, images[order], labels[order]).maps
    torch.testing.assert_close(found, together[order], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layer", WRN_CUTS)
def test_in_training_a_sample_with_the_captured_head_equals_its_map_in_the_batch(
    wrn: StagedNetwork, images: Tensor, labels: Tensor, layer: str
) -> None:
    check_alone_equals_batch(wrn.train().run(images, [layer]), layer, labels)


def test_in_training_a_live_head_would_mix_the_samples(wrn: StagedNetwork, images: Tensor, labels: Tensor) -> None:
    output = wrn.train().run(images, ["group2"])
    mixed = StagedOutput(output.logits, output.activations, {"group2": live_head(wrn)})
    torch.testing.assert_close(mixed.heads["group2"](output.activations["group2"]), output.logits)
    with pytest.raises(AssertionError, match="not close"):
        check_alone_equals_batch(mixed, "group2", labels)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_the_captured_head_repeats_the_logits(wrn: StagedNetwork, images: Tensor, training: bool, frozen: bool) -> None:
    wrn.train(training)
    if frozen:
        wrn.network.get_submodule("bn1").eval()
    output = wrn.run(images, WRN_CUTS)
    for layer in WRN_CUTS:
        torch.testing.assert_close(output.heads[layer](output.activations[layer]), output.logits)


@pytest.mark.parametrize("training", [True, False])
def test_the_head_belongs_to_its_pass(wrn: StagedNetwork, images: Tensor, training: bool) -> None:
    output = wrn.train(training).run(images, WRN_CUTS)
    wrn.train()(images + 1.0)
    wrn.train(not training)
    for layer in WRN_CUTS:
        torch.testing.assert_close(output.heads[layer](output.activations[layer]), output.logits)


def test_running_statistics_are_the_other_choice(wrn: StagedNetwork, images: Tensor, labels: Tensor) -> None:
    output = wrn.train().run(images, ["group2"])
    maps = {
        how: Explainer("grad_cam_pp", "group2", statistics=how).from_output(output, labels)
        for how in ("batch", "running")
    }
    leaf = output.activations["group2"].detach().requires_grad_()
    score = live_head(wrn.eval())(leaf).gather(1, labels[:, None]).sum()
    expected = grad_cam_pp(leaf.detach(), torch.autograd.grad(score, leaf)[0])
    torch.testing.assert_close(maps["running"], expected, rtol=1e-10, atol=1e-13)
    assert float((maps["batch"] - expected).abs().amax()) > 0.01 * float(expected.amax())
