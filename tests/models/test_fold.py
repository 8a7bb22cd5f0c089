"""Folded batch normalisation: the same logits and maps, in fewer operations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distill.explain import Explainer
from distill.models import StagedNetwork, create_model, fold_batch_norm
from distill.models.staged import ModelSpec


def trained(name: str) -> StagedNetwork:
    torch.manual_seed(3)
    network = create_model(name, num_classes=5).double().train()
    with torch.no_grad():
        for _ in range(5):
            network(torch.rand(8, 3, 32, 32, dtype=torch.float64))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(("name", "left"), [("wrn_16_2", 6), ("wrn_10_1", 4), ("resnet18", 0)])
def test_the_function_stays_what_it_is(name: str, left: int) -> None:
    network = trained(name)
    folded = fold_batch_norm(network)
    images, labels = torch.rand(4, 3, 32, 32, dtype=torch.float64), torch.arange(4)
    torch.testing.assert_close(folded(images), network(images), rtol=1e-9, atol=1e-10)
    assert norms(network) > norms(folded) == left
    for layer in network.cuts:
        for method in ("grad_cam", "grad_cam_pp"):
            ours, theirs = (Explainer(method, layer)(net, images, labels).maps for net in (folded, network))
            torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-10)
    assert float(theirs.abs().amax()) > 1e-3


def test_a_convolution_that_is_explained_keeps_its_output() -> None:
    network = trained("wrn_10_1")
    layer = "block1.layer.0.conv1"
    folded = fold_batch_norm(network, keep=[layer])
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    ours, theirs = (net.run(images, [layer]).activations[layer] for net in (folded, network))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)
    lost = fold_batch_norm(network).run(images, [layer]).activations[layer]
    assert float((lost - theirs).abs().amax()) > 1e-2


class ConvolutionInAStem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3))
        self.norm = nn.BatchNorm2d(4)
        self.classifier = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.norm(self.stem(images)).relu().mean((2, 3)))


def test_a_convolution_that_ends_an_explained_module_keeps_its_output() -> None:
    network = StagedNetwork(ConvolutionInAStem(), ModelSpec("own", 2), cuts={}).eval()
    norm = network.network.get_submodule("norm")
    assert isinstance(norm.running_mean, torch.Tensor)
    norm.running_mean.fill_(3.0)
    images = torch.rand(2, 3, 5, 5)
    folded = fold_batch_norm(network, keep=["stem"])
    ours, theirs = (net.run(images, ["stem"]).activations["stem"] for net in (folded, network))
    torch.testing.assert_close(ours, theirs)
    assert norms(fold_batch_norm(network)) == 0


def test_only_in_evaluation() -> None:
    with pytest.raises(ValueError, match="`network` must be in evaluation mode, but it is in training mode"):
        fold_batch_norm(create_model("wrn_10_1", num_classes=2).train())
