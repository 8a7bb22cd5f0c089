"""Reading and cutting layers: a head computes the logits of the network from the activations."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distill.models import StagedNetwork, as_staged, create_model
from tests.models.helpers import lively

CUTS = [
    ("wrn_10_1", {}, ("group1", "group2", "final")),
    ("wrn_16_2", {}, ("group1", "group2", "final")),
    ("resnet18", {"small_images": True}, ("layer1", "layer2", "layer3", "final")),
    ("resnet50", {"small_images": True}, ("layer1", "layer2", "layer3", "final")),
]
IMAGES = torch.rand(4, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("name", "options", "cuts"), CUTS)
def test_cuts_are_exact(name: str, options: dict[str, Any], cuts: tuple[str, ...], training: bool) -> None:
    net = lively(name, **options).train(training)
    assert tuple(net.cuts) == cuts
    reference = copy.deepcopy(net)
    output = net.run(IMAGES, cuts)
    torch.testing.assert_close(output.logits, reference(IMAGES), atol=1e-12, rtol=0)
    for cut in cuts:
        activations = output.activations[cut]
        torch.testing.assert_close(output.heads[cut](activations), output.logits, atol=1e-9, rtol=0)
        assert activations.min() >= 0
        assert activations.max() > 0


@pytest.mark.parametrize("name", ["wrn_10_1", "resnet18"])
def test_only_the_last_cut_has_a_closed_form(name: str) -> None:
    net = lively(name).eval()
    heads = net.run(IMAGES, list(net.cuts)).heads
    assert heads["final"].classifier is net.network.fc
    assert [heads[cut].classifier for cut in list(net.cuts)[:-1]] == [None] * (len(heads) - 1)


def test_activations_are_those_of_the_modules_they_name() -> None:
    net = lively("wrn_10_1").eval()
    output = net.run(IMAGES, [*net.cuts, *net.taps])
    seen: dict[str, Tensor] = {}
    for path in [*net.cuts.values(), *net.taps.values()]:
        net.network.get_submodule(path).register_forward_hook(
            lambda module, args, out, path=path: seen.__setitem__(path, out.clone())
        )
    net(IMAGES)
    for layer, path in (net.cuts | net.taps).items():
        torch.testing.assert_close(output.activations[layer], seen[path], atol=1e-12, rtol=0)


def test_taps_are_raw_sums_and_have_no_head() -> None:
    net = lively("wrn_10_1").eval()
    output = net.run(IMAGES, ["group1_sum", "group2_sum", "group3_sum", "group2"])
    assert tuple(output.heads) == ("group2",)
    assert [tuple(output.activations[f"group{i}_sum"].shape[1:]) for i in (1, 2, 3)] == [
        (16, 16, 16),
        (32, 8, 8),
        (64, 4, 4),
    ]
    assert all(output.activations[f"group{i}_sum"].min() < 0 for i in (1, 2, 3))
    final = net.network.relu(net.network.bn1(output.activations["group3_sum"]))  # type: ignore[operator]
    torch.testing.assert_close(final, net.run(IMAGES, ["final"]).activations["final"], atol=1e-12, rtol=0)


def test_a_layer_that_a_path_leads_around_has_no_head() -> None:
    net = lively("wrn_10_1").eval()
    output = net.run(IMAGES, ["block2.layer.0.relu2", "block2.layer.0.relu1"])
    assert tuple(output.heads) == ("block2.layer.0.relu1",)
    head = output.heads["block2.layer.0.relu1"]
    torch.testing.assert_close(head(output.activations["block2.layer.0.relu1"]), output.logits, atol=1e-9, rtol=0)


def test_a_layer_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(ValueError, match=r"must be one of group1, group2, final, group1_sum, .* got 'group4'\."):
        create_model("wrn_10_1", num_classes=3).run(IMAGES.float(), ["group4"])


def test_a_head_does_not_mix_samples_in_training() -> None:
    net = lively("wrn_10_1").train()
    output = net.run(IMAGES, ["group1"])
    alone = [output.heads["group1"](output.activations["group1"][i : i + 1]) for i in range(4)]
    torch.testing.assert_close(torch.cat(alone), output.logits, atol=1e-9, rtol=0)


def test_a_head_can_take_the_running_statistics() -> None:
    net = lively("wrn_10_1").train()
    output = net.run(IMAGES, ["group2"])
    activations = output.activations["group2"]
    running = output.heads["group2"].with_running_statistics()(activations)
    assert (running - output.logits).abs().max() > 1e-3
    head = copy.deepcopy(net).eval().run(IMAGES, ["group2"]).heads["group2"]
    torch.testing.assert_close(running, head(activations), atol=1e-9, rtol=0)


@pytest.mark.parametrize("layers", [[], ["group1"], ["final", "group1", "group2_sum"]])
def test_batch_statistics_are_updated_once_a_pass(layers: list[str]) -> None:
    net, reference = lively("wrn_10_1").train(), lively("wrn_10_1").train()
    output = net.run(IMAGES, layers)
    for layer, head in output.heads.items():
        head(output.activations[layer])
    reference(IMAGES)
    before = dict(lively("wrn_10_1").named_buffers())
    moved = [name for name, buffer in net.named_buffers() if not torch.equal(buffer, before[name])]
    assert len(moved) == 3 * sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    for (name, got), expected in zip(net.named_buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-12, rtol=0, msg=name)
    assert {int(b) for n, b in net.named_buffers() if n.endswith("num_batches_tracked")} == {1}


def test_dropout_is_left_out_of_a_head() -> None:
    net = lively("wrn_10_1", dropout=0.5).train()
    output = net.run(IMAGES, ["group1"])
    activations = output.activations["group1"]
    torch.testing.assert_close(output.heads["group1"](activations), output.heads["group1"](activations))


def _equal(copied: StagedNetwork, net: StagedNetwork) -> None:
    expected = net.run(IMAGES, ["group1"])
    got = copied.run(IMAGES, ["group1"])
    assert torch.equal(got.logits, expected.logits)
    assert (copied.spec, copied.cuts, copied.taps, copied.training) == (net.spec, net.cuts, net.taps, net.training)


def test_a_network_can_be_copied_and_pickled_also_after_it_was_read() -> None:
    net = lively("wrn_10_1", classes=("a", "b", "c")).eval()
    net.run(IMAGES, ["group1"])
    _equal(copy.deepcopy(net), net)
    _equal(pickle.loads(pickle.dumps(net)), net)


def test_a_copy_reads_its_own_weights() -> None:
    net = lively("wrn_10_1").eval()
    before = net.run(IMAGES, ["group1"]).logits
    copied = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.mul_(0.5)
    assert torch.equal(net.run(IMAGES, ["group1"]).logits, before)
    torch.testing.assert_close(copied.run(IMAGES, ["group1"]).logits, copied(IMAGES), atol=1e-12, rtol=0)
    assert (copied(IMAGES) - before).abs().max() > 1e-3


@pytest.mark.parametrize("between", [nn.Identity(), nn.Dropout(0.5)])
def test_what_is_overwritten_behind_an_identity_is_read_as_it_was(between: nn.Module) -> None:
    layers = [
        nn.Conv2d(3, 4, 3),
        between,
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    ]
    network = nn.Sequential(*layers).eval()
    images = torch.rand(2, 3, 6, 6)
    with torch.no_grad():
        output = as_staged(network).run(images, ["0", "1"])
        expected = layers[0](images)
    assert float(expected.min()) < 0
    for layer in ("0", "1"):
        torch.testing.assert_close(output.activations[layer], expected)
        torch.testing.assert_close(output.heads[layer](output.activations[layer]), output.logits)
        torch.testing.assert_close(output.activations[layer], expected)
