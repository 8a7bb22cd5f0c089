"""Keys and names that a user mistakes: one message, without a misleading suggestion."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import distill
from distill.build import load_config
from distill.errors import InputError, closest, unknown_name, without_addresses
from distill.evaluation import ONE_PASS, MapSettings
from distill.models import create_model
from tests.models.test_pooled_heads import Network
from tests.training.helpers import save_teacher, small, train


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("student", "classes=[a,b]"),
        *((section, f"{key}") for section in ("student", "teacher") for key in ("num_classes=3", "in_channels=1")),
        *((section, f"{key}=[0.5]") for section in ("student", "teacher") for key in ("mean", "std")),
    ],
)
def test_keys_that_the_data_set_determines_are_refused(section: str, key: str) -> None:
    with pytest.raises(
        InputError, match=rf"{section}.{key.partition('=')[0]}: (it is that of the data set|write `norm)"
    ):
        load_config([], [f"{section}.{key}", "teacher.checkpoint=none"])


def test_barebones_is_refused_before_a_run_starts() -> None:
    with pytest.raises(InputError, match=r"trainer.barebones: it turns off the checkpoints"):
        load_config([], ["trainer.barebones=true"])
    assert load_config([], ["trainer.barebones=false"])


@pytest.mark.parametrize(
    ("got", "names", "expected"),
    [
        ("layer_decay", ["weight_decay", "lr"], None),
        ("imagenet", ["image_folder", "cifar10"], None),
        ("bare", ["barebones"], None),
        ("studnet", ["student", "teacher"], "student"),
        ("momentun", ["momentum"], "momentum"),
        ("cahce", ["cache", "cache_dir"], "cache"),
        ("tudent", ["student"], "student"),
        ("max_epoch", ["max_epochs", "max_steps"], "max_epochs"),
    ],
)
def test_a_name_is_suggested_only_if_it_is_close(got: str, names: list[str], expected: str | None) -> None:
    assert closest(got, names) == expected


def test_a_message_has_no_empty_list_and_no_address() -> None:
    assert unknown_name("layer", "final", [], see="x") == "unknown layer 'final' (none is known; see x)"
    assert without_addresses(str(torch.conv2d)) == "<built-in method conv2d>"
    assert "0x" not in without_addresses(repr(object()))


def test_a_network_of_torchvision_is_suggested_by_its_name() -> None:
    with pytest.raises(InputError, match=r"unknown model 'resnet34'; write `torchvision:resnet34`"):
        create_model("resnet34", num_classes=2)


def pooled_twice(num_classes: int) -> Network:
    network = Network(lambda x: x.amax((2, 3)))
    return network.float()


def test_a_network_without_named_layers_names_its_modules() -> None:
    net = create_model(f"{__name__}:pooled_twice", num_classes=3)
    with pytest.raises(ValueError, match=r"`layer` must be one of final .* of a module .*, such as .*top.*; got 'tpo'"):
        net.run(torch.rand(2, 3, 8, 8), ["tpo"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose teacher is a plain state dict."""
    folder = tmp_path_factory.mktemp("runs")
    torch.save(distill.load_model(save_teacher(folder / "teacher")).network.state_dict(), folder / "own.pth")
    described = "name: wrn_16_1, normalisation: {mean: [0, 0, 0], std: [1, 1, 1]}"
    train(small(folder, f"teacher={{checkpoint: {folder / 'own.pth'}, {described}}}", "trainer.max_epochs=1"))
    return folder


def test_a_file_of_weights_is_the_reference_of_an_evaluation(runs: Path) -> None:
    done = distill.evaluate(
        runs / "run", reference=runs / "own.pth", limit=8, settings=ONE_PASS, gallery=0, output=runs / "out"
    )
    assert list(done.record["networks"]) == ["own.pth", "run"]
    assert done.record["reference"] == "own.pth"
    other = distill.evaluate(
        runs / "run",
        reference=runs / "teacher" / "student.safetensors",
        limit=8,
        settings=ONE_PASS,
        gallery=0,
        output=runs / "other",
    )
    first, second = (record["sets"]["test"]["networks"]["run"]["figures"] for record in (done.record, other.record))
    assert first["agreement"] == second["agreement"]


def test_a_file_of_weights_alone_is_not_evaluated(runs: Path) -> None:
    with pytest.raises(InputError, match=r"own.pth is a file of weights, which is compared with a run"):
        distill.evaluate(runs / "own.pth", limit=8)


def test_an_evaluation_explains_a_dotted_path(runs: Path) -> None:
    layer = MapSettings(layer="block2.layer.0.relu1")
    done = distill.evaluate(runs / "run", limit=4, maps=layer, settings=ONE_PASS, gallery=0, output=runs / "dotted")
    assert done.record["networks"]["run"]["layer"] == "block2.layer.0.relu1"
    for wrong, message in (("block2.layer.0.relu2", "a path from the images"), ("group9", "unknown layer 'group9'")):
        with pytest.raises(InputError, match=message):
            distill.evaluate(runs / "run", limit=4, maps=MapSettings(layer=wrong), settings=ONE_PASS)
