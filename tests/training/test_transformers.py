"""A transformer and a convolutional network teach each other with maps of different sizes, from training to maps."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

import distill
from distill.build import build
from distill.errors import InputError
from distill.models import create_model, save_model
from tests.training.helpers import small, train

VIT = "tests.training.test_transformers:vit"
TERMS = "objective={soft_targets: {weight: 0.9}, explanation: {weight: 5, method: grad_cam}}"
ATTENTION = "objective={attention_transfer: {weight: 100, layer: final}}"


def vit(num_classes: int) -> nn.Module:
    """A ViT with 4 x 4 patches on images of 16 pixels; a WRN has 4 x 4 sites at `final`, and 8 x 8 at `group2`."""
    network = VisionTransformer(16, 2, 2, 2, 16, 32, num_classes=num_classes)
    nn.init.normal_(network.heads[-1].weight)
    return network


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("teachers")
    found = {}
    for name in (VIT, "wrn_10_1"):
        torch.manual_seed(1)
        network = create_model(name, num_classes=10)
        found[name] = str(save_model(network, folder / name.replace(":", "_")).parent)
    return found


@pytest.mark.parametrize(("student", "teacher"), [("wrn_10_1", VIT), (VIT, "wrn_10_1"), (VIT, VIT)])
@pytest.mark.parametrize("terms", [TERMS, ATTENTION])
def test_maps_of_different_sizes_are_matched(
    student: str, teacher: str, terms: str, teachers: dict[str, str], tmp_path: Path
) -> None:
    options = [f"student.name={student}", f"teacher.name={teacher}", f"teacher.checkpoint={teachers[teacher]}"]
    config = small(tmp_path, *options, terms, "trainer.max_epochs=2", "optimizer={name: adamw, lr: 0.01}")
    run = train(config)
    name = next(name for name in ("explanation", "attention_transfer") if name in run.module.objective.names)
    with (config.directory / "metrics.csv").open() as file:
        rows = [float(row[f"train/{name}"]) for row in csv.DictReader(file) if row[f"train/{name}"]]
    assert len(rows) == 2
    assert all(math.isfinite(row) and row > 0 for row in rows)
    if name == "explanation":  # the tokens of a LayerNorm all have the same attention, so there is little to learn
        assert rows[1] < rows[0]


def test_a_cached_transformer_teaches_as_a_live_one(teachers: dict[str, str], tmp_path: Path) -> None:
    options = [f"teacher.name={VIT}", f"teacher.checkpoint={teachers[VIT]}", TERMS, "data.augment.views=1"]
    losses = {}
    for cache in ("off", "memory"):
        config = small(tmp_path / cache, *options, f"teacher.cache={cache}", "trainer.max_epochs=2")
        run = train(config)
        losses[cache] = torch.cat([parameter.detach().flatten() for parameter in run.module.student.parameters()])
    torch.testing.assert_close(losses["memory"], losses["off"], rtol=0, atol=1e-5)


def test_the_maps_of_a_trained_transformer_are_evaluated(teachers: dict[str, str], tmp_path: Path) -> None:
    config = small(
        tmp_path, f"student.name={VIT}", f"teacher.checkpoint={teachers['wrn_10_1']}", TERMS, "trainer.max_epochs=1"
    )
    train(config)
    found = distill.evaluate(
        config.directory,
        reference=f"{teachers['wrn_10_1']}/student.safetensors",
        network=VIT,
        maps={"method": "grad_cam"},
        settings={"sanity": 0, "perturbed": 0, "explained": 0},
        limit=20,
    )
    (scores,) = (one for one in found.record["sets"].values())
    figures = [network["figures"]["map_cosine"] for network in scores["networks"].values()]
    (measured,) = [figure for figure in figures if figure is not None]
    assert measured["value"] is not None
    assert 0 < measured["value"] <= 1


def test_a_transformer_is_exported_without_its_maps(teachers: dict[str, str], tmp_path: Path) -> None:
    config = small(
        tmp_path, f"student.name={VIT}", f"teacher.checkpoint={teachers['wrn_10_1']}", TERMS, "trainer.max_epochs=1"
    )
    train(config)
    with pytest.raises(
        InputError, match=r"maps of layer 'final' cannot be exported: no linear backward for .*autograd"
    ):
        distill.export_model(config.directory, layer="final", network=VIT, limit=8)
    done = distill.export_model(config.directory, network=VIT, limit=8)
    assert done.path.exists()
    assert 0 < done.parity.logits < 1e-4


@pytest.mark.slow
def test_a_compiled_transformer_is_trained_as_it_is(teachers: dict[str, str], tmp_path: Path) -> None:
    weights = []
    for compiled in ("false", "true"):
        options = [f"student.name={VIT}", f"teacher.checkpoint={teachers['wrn_10_1']}", TERMS, "trainer.max_epochs=1"]
        run = train(small(tmp_path / compiled, *options, f"student.compile={compiled}"))
        weights.append(torch.cat([parameter.detach().flatten() for parameter in run.module.student.parameters()]))
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=1e-4)


def test_the_trial_step_finds_final_in_both(teachers: dict[str, str], tmp_path: Path) -> None:
    run = build(small(tmp_path, f"student.name={VIT}", f"teacher.checkpoint={teachers['wrn_10_1']}", TERMS))
    assert run.module.student.cuts["final"] == "encoder.layers.encoder_layer_1.ln_1"
