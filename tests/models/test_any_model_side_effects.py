"""Explaining a custom network does not change it, and works in every gradient mode."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from distill.explain import Explainer
from distill.models import as_staged
from distill.models.hooked import run_hooked
from tests.models.own_networks import Branching, Noisy, Plain, made, pictures
from tests.models.test_any_model_errors import LABELS, hooks

KINDS = [Plain, Branching, Noisy]
LAYERS = ["stem", "relu", "inner"]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("create_graph", [True, False])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("kind", KINDS)
def test_looking_changes_nothing(kind: type[nn.Module], layer: str, create_graph: bool, training: bool) -> None:
    network = made(kind).train(training)
    network.get_submodule("inner.1").eval()
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    identities = [id(value) for value in network.buffers()]
    random_state, images = torch.get_rng_state(), pictures()
    Explainer("grad_cam_pp", layer)(network, images, LABELS, create_graph=create_graph)
    assert hooks(network) == 0
    assert [module.training for module in network.modules()] == modes
    assert all(p.requires_grad and p.grad is not None and bool((p.grad == 3).all()) for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [id(value) for value in network.buffers()] == identities
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(images, pictures())
    assert not images.requires_grad


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("kind", KINDS)
def test_grad_modes_and_frozen_parameters(kind: type[nn.Module], layer: str, training: bool) -> None:
    network = made(kind).train(training)
    explainer = Explainer("grad_cam_pp", layer)
    expected = explainer(network, pictures(), LABELS).maps
    assert float(expected.amax()) > 0
    assert not expected.requires_grad
    found = []
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found.append(explainer(network, pictures(), LABELS))
            assert not found[-1].logits.requires_grad
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    found.append(explainer(network, pictures(), LABELS))
    with torch.inference_mode():
        found.append(explainer(network, pictures(), LABELS))
    for explanation in found:
        torch.testing.assert_close(explanation.maps, expected, rtol=1e-10, atol=1e-15)


def test_a_pass_under_no_grad_can_be_explained_afterwards() -> None:
    network = made(Branching)
    expected = Explainer("grad_cam_pp", "inner")(network, pictures(), LABELS).maps
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            output = run_hooked(network, pictures(), ["inner"])
        assert not output.activations["inner"].requires_grad
        found = Explainer("grad_cam_pp", "inner").from_output(output, LABELS)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


class Looking(pl.LightningModule):
    """A module that explains the batches of validation and test steps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen: dict[str, Tensor] = {}

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        assert torch.is_inference_mode_enabled()
        self.seen["validation"] = Explainer("grad_cam_pp", "inner")(self.network, *batch).maps

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        assert torch.is_inference_mode_enabled()
        self.seen["test"] = Explainer("grad_cam_pp", "inner")(as_staged(self.network), *batch).maps


def test_inside_the_steps_of_lightning(tmp_path: Any) -> None:
    network = made(Branching)
    expected = Explainer("grad_cam_pp", "inner")(network, pictures(), LABELS).maps
    module = Looking(network)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator="cpu", devices=1, default_root_dir=tmp_path, enable_checkpointing=False, **quiet)
    loader: Any = DataLoader(TensorDataset(pictures(), LABELS), batch_size=4)
    trainer.validate(module, loader, verbose=False)
    trainer.test(module, loader, verbose=False)
    for name in ("validation", "test"):
        torch.testing.assert_close(module.seen[name], expected, rtol=1e-12, atol=0)
    assert hooks(network) == 0
