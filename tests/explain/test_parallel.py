"""Two processes, checkpointed segments and the channels-last layout give the same maps and gradients."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from distill.explain import Explainer
from distill.models import StagedNetwork, as_staged
from tests.explain.steps import batch, gradients, make_step, teacher_maps, tiny_network
from tests.models.own_networks import Checkpointed, Plain, made, pictures

LAYERS = ("group2", "final")
LABELS = torch.tensor([0, 1, 2, 1])


def inputs(layer: str) -> tuple[Tensor, Tensor, Tensor]:
    images, labels = batch()
    return images, labels, teacher_maps(student().eval(), layer, images)


def student() -> StagedNetwork:
    return tiny_network("wrn_10_1")


class Stepping(torch.nn.Module):
    """The step as the forward of a module, so that data parallelism wraps all of it."""

    def __init__(self, network: StagedNetwork, layer: str) -> None:
        super().__init__()
        self.network, self.layer = network, layer

    def forward(self, images: Tensor, labels: Tensor, maps: Tensor) -> Tensor:
        return make_step(self.network, self.layer)(images, labels, maps)


def one_rank(rank: int, folder: str) -> None:
    """Run the step on half of the batch, and save the gradients."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for layer in LAYERS:
        for training in (True, False):
            network = student().train(training)
            parallel = DistributedDataParallel(Stepping(network, layer))
            half = [part[2 * rank : 2 * rank + 2] for part in inputs(layer)]
            parallel(*half).backward()
            torch.save(gradients(network), Path(folder) / f"{layer}_{training}_{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the gradients that two processes saved."""
    folder = tmp_path_factory.mktemp("ranks")
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    processes: Any = mp
    processes.spawn(one_rank, args=(str(folder),), nprocs=2, join=True)
    if before is None:
        del os.environ["OMP_NUM_THREADS"]
    return folder


def alone(layer: str, *, training: bool, parts: int) -> list[Tensor]:
    """Return the mean of the gradients of the parts of the batch, computed in one process."""
    total: list[Tensor] = []
    size = 4 // parts
    for i in range(parts):
        network = student().train(training)
        some = [part[i * size : (i + 1) * size] for part in inputs(layer)]
        make_step(network, layer)(some[0], some[1], some[2]).backward()
        found = [g / parts for g in gradients(network)]
        total = [a + b for a, b in zip(total, found, strict=True)] if total else found
    return total


def difference(a: list[Tensor], b: list[Tensor]) -> float:
    return max(float((x - y).abs().amax()) for x, y in zip(a, b, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
def test_two_processes_in_evaluation_mode_are_one_with_the_joined_batch(left: Path, layer: str) -> None:
    expected = alone(layer, training=False, parts=1)
    assert float(expected[0].abs().amax()) > 1e-4
    for rank in (0, 1):
        assert difference(torch.load(left / f"{layer}_False_{rank}.pt"), expected) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
def test_two_processes_in_training_are_the_mean_of_the_halves(left: Path, layer: str) -> None:
    expected = alone(layer, training=True, parts=2)
    for rank in (0, 1):
        assert difference(torch.load(left / f"{layer}_True_{rank}.pt"), expected) < 1e-12
    # each half has its own batch statistics, so the joined batch is something else
    assert difference(alone(layer, training=True, parts=1), expected) > 1e-3


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layer", ["stem", "inner", "mark"])
def test_checkpointed_segments_give_the_same_maps(layer: str, training: bool) -> None:
    """In training mode with the traced graph only: a hooked second pass cannot be recomputed in its mode."""
    network = made(Checkpointed).train(training)
    plain = made(SameAsCheckpointed).train(training)
    expected = Explainer("grad_cam_pp", layer)(plain, pictures(), LABELS).maps
    assert float(expected.amax()) > 0
    ways = [as_staged(network)] if training else [as_staged(network), as_staged(network, trace=False), network]
    for net in ways:
        found = Explainer("grad_cam_pp", layer)(net, pictures(), LABELS).maps
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-14)


class SameAsCheckpointed(Plain):
    """The same network without the checkpoint."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.stem(images))
        return self.fc(self.mark(self.relu(self.inner(x))).mean((-2, -1)))


@pytest.mark.parametrize("trace", [True, False])
def test_checkpointed_segments_give_the_same_gradients(trace: bool) -> None:
    images, labels = pictures(), LABELS
    found = []
    for kind in (SameAsCheckpointed, Checkpointed):
        network = made(kind)
        net = as_staged(network, trace=trace)
        make_step(net, "stem")(images, labels, teacher_maps(net, "stem", images)).backward()
        found.append(gradients(network))
    assert float(found[0][0].abs().amax()) > 1e-3
    assert difference(found[0], found[1]) < 1e-12


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layer", ["group1", "group2", "final"])
def test_channels_last_gives_the_same_maps_and_gradients(layer: str, training: bool) -> None:
    images, labels, maps = inputs(layer)
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        network = student().train(training).to(memory_format=layout)
        given = images.contiguous(memory_format=layout)
        output = network.run(given, [layer])
        assert output.activations[layer].is_contiguous(memory_format=layout)
        found = Explainer("grad_cam_pp", layer).from_output(output, labels)
        network = student().train(training).to(memory_format=layout)
        make_step(network, layer)(given, labels, maps).backward()
        results.append([found, *gradients(network)])
    assert float(results[0][0].amax()) > 0
    assert difference(*results) < 1e-11
