"""Operations that resemble supported ones: autograd is used, and the gradient is correct."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from distill.explain import score_gradients
from distill.models import as_staged


class Gate(nn.Module):
    """Add a function of the channel means to every site."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.common = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1))
        self.last = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        logits: Tensor = self.last(features + self.common(features))
        return logits


class RowMean(nn.Module):
    """Take the mean over one of two spatial axes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.last = nn.Linear(4 * 6, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.stem(images).mean(-1).flatten(1))
        return logits


@pytest.mark.parametrize("network", [Gate, RowMean])
@pytest.mark.filterwarnings("ignore:computing gradients by autograd")
def test_autograd_is_taken_where_a_sum_or_a_mean_is_another(network: type[nn.Module]) -> None:
    model = network().double().eval()
    images, target = torch.rand(2, 3, 6, 6, dtype=torch.float64), torch.tensor([0, 2])
    output = as_staged(model).run(images, ["stem"])
    activations, head = output.activations["stem"], output.heads["stem"]
    found = score_gradients(head, activations, target, create_graph=False)
    leaf = activations.detach().requires_grad_()
    stem, model.stem = model.stem, nn.Identity()
    expected = torch.autograd.grad(model(leaf).gather(1, target[:, None]).sum(), leaf)[0]
    model.stem = stem
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert head.classifier is None
    with pytest.raises(ValueError, match="no linear backward for"):
        score_gradients(head, activations, target, create_graph=False, how="linear")
