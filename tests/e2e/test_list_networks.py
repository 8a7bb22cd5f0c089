"""`distill list models PART` and `distill list layers NETWORK`."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.models import create_model
from distill.models.layer_table import layer_table
from distill.workflows.layers import list_layers
from distill.workflows.train import train_config
from tests.e2e.helpers import Command
from tests.models.own_networks import __name__ as own_networks
from tests.training.helpers import small


def test_networks_of_the_libraries_are_found_with_their_weights(distill: Command) -> None:
    result = distill("list", "models", "convnext_t")
    assert result.code == 0
    rows = {line.split()[0]: line for line in result.out.splitlines()}
    assert "IMAGENET1K_V1" in rows["torchvision:convnext_tiny"]
    assert "fb_in1k" in rows["timm:convnext_tiny"]
    assert distill("list", "models", "wrn").out.split() == ["name", "weights", "wrn_D_K"]


def test_a_name_that_no_network_has_is_refused(distill: Command) -> None:
    assert distill("list", "models", "nosuchnet").message.startswith("distill: no network contains 'nosuchnet'; see")
    assert distill("list", "terms", "nosuch").message.startswith("distill: `distill list terms` takes no name")
    result = distill("list", "layers")
    assert (result.code, result.message[:42]) == (2, "distill: `distill list layers` needs a net")


def test_the_layers_of_a_network_are_printed(distill: Command) -> None:
    result = distill("list", "layers", "wrn_10_1")
    assert result.code == 0
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in result.out.splitlines()}
    assert rows["relu"] == "final ReLU 64 x 8 x 8 not negative yes closed form"
    assert rows["bn1"] == "BatchNorm2d 64 x 8 x 8 signed yes linear backward"
    assert rows["block3"] == "group3_sum Group 64 x 8 x 8 signed no"
    assert "block3.layer.0.conv1" not in rows
    assert "16 layers that are no cuts are not shown" in result.out
    assert "block3.layer.0.conv1" in distill("list", "layers", "wrn_10_1", "--all").out


def test_ways_of_differentiation() -> None:
    rows = {row.layer: row for row in layer_table(create_model("timm:convnext_atto", num_classes=3), size=64)}
    final = rows["stages"]
    assert (final.names, final.gradient, final.signed) == (("final",), "autograd", True)
    tokens = layer_table(create_model("timm:vit_tiny_patch16_224", num_classes=3, image_size=32, depth=1), size=32)
    assert all(row.problem.startswith("`layer`") for row in tokens if row.kind == "Block")


def test_the_layers_of_a_run_are_those_of_its_student(tmp_path: Path) -> None:
    run = train_config(small(tmp_path, "trainer.max_epochs=1"))
    rows = list_layers(str(run.directory))
    assert [row.shape for row in rows if "final" in row.names] == [(64, 4, 4)]


def test_images_that_do_not_fit_and_names_that_do_not_exist(distill: Command) -> None:
    result = distill("list", "layers", "torchvision:inception_v3", "--size", "32")
    assert result.code == 2
    assert "cannot be run on images of 32 x 32 pixels" in result.message
    assert distill("list", "layers", "torchvision:resnet81").code == 2


def test_looking_at_layers_changes_nothing() -> None:
    network = create_model("wrn_10_1", num_classes=3)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    layer_table(network, size=16)
    assert network.training
    assert all(bool((value == before[key]).all()) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", [f"{own_networks}:NoSuch"])
def test_a_callable_is_imported(distill: Command, name: str) -> None:
    assert "cannot be imported" in distill("list", "layers", name).message
