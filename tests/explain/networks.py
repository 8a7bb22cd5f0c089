"""Helpers for tests that explain networks."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.models import StagedNetwork
from distill.types import Head, StagedOutput

WRN_CUTS = ("group1", "group2", "final")


def state(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of every parameter and buffer."""
    return copy.deepcopy(network.state_dict())


def same(found: Tensor, expected: Tensor) -> None:
    """Check equality up to the last bits, in which two runs of a convolution can differ."""
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-14)


def hooks(network: nn.Module) -> int:
    """Return the number of hooks of a network."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in network.modules() for kind in kinds)


def cut_module(network: StagedNetwork, layer: str) -> nn.Module:
    """Return the module whose output is the cut."""
    return network.network.get_submodule(network.cuts[layer])


class Stacked(NamedTuple):
    """A head that calls a function, without a closed form."""

    function: nn.Module

    @property
    def classifier(self) -> nn.Linear | None:
        return None

    @property
    def logits(self) -> Tensor:
        return torch.empty(0)  # only the linear backward asks

    @property
    def has_dropout(self) -> bool:
        return False

    def obstacle(self, activations: Tensor) -> str | None:
        return "a function whose operations are not known"

    def pull_back(self, cotangent: Tensor) -> Tensor:
        raise AssertionError("there is no linear backward of an unknown function")

    def with_running_statistics(self) -> Stacked:
        return self

    def __call__(self, activations: Tensor) -> Tensor:
        logits = self.function(activations)
        assert isinstance(logits, Tensor)
        return logits


class LiveTail(nn.Module):
    """The modules after `group2` of a wrn_10_1; in training mode, batch normalisation makes the samples dependent."""

    def __init__(self, network: StagedNetwork) -> None:
        super().__init__()
        self.network = network.network

    def forward(self, activations: Tensor) -> Tensor:
        block = self.network.get_submodule("block3.layer.0")
        parts = dict(block.named_children())
        inner = parts["conv2"](parts["relu2"](parts["bn2"](parts["conv1"](activations))))
        features = inner + parts["convShortcut"](activations)
        top = dict(self.network.named_children())
        logits = top["fc"](top["relu"](top["bn1"](features)).mean((2, 3)))
        assert isinstance(logits, Tensor)
        return logits


def live_head(network: StagedNetwork) -> Head:
    """Return the head of `group2` with ordinary batch normalisation."""
    return Stacked(LiveTail(network))


def sample(output: StagedOutput, layer: str, n: int) -> StagedOutput:
    """Return one sample of a forward pass, with the head of the whole batch."""
    return StagedOutput(
        logits=output.logits[n : n + 1],
        activations={layer: output.activations[layer][n : n + 1]},
        heads={layer: output.heads[layer]},
    )


def own_gradients(output: StagedOutput, layer: str, target: Tensor) -> Tensor:
    """Return the gradient of each sample's score, with one backward pass per sample."""
    rows = []
    for n in range(len(target)):
        leaf = output.activations[layer][n : n + 1].detach().clone().requires_grad_()
        score = output.heads[layer](leaf)[0, int(target[n])]
        rows.append(torch.autograd.grad(score, leaf)[0])
    return torch.cat(rows)
