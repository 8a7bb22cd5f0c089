"""Held-out methods do not change the network, depend on the image alone, and work with gradients disabled."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from distill.explain import ATTRIBUTIONS, Explainer
from distill.models import StagedNetwork
from tests.explain.held_out.networks import QUICK
from tests.explain.networks import hooks, same, state

SEEDED = ("smooth_grad", "lime", "rise")


def explainer(method: str, **options: object) -> Explainer:
    return Explainer(method, "group2", options=QUICK.get(method, {}) | options)


@pytest.mark.parametrize("method", ATTRIBUTIONS)
def test_nothing_is_left_behind(wrn: StagedNetwork, images: Tensor, labels: Tensor, method: str) -> None:
    expected = explainer(method)(wrn, images, labels).maps
    torch.manual_seed(77)
    wrn.train()
    wrn.network.get_submodule("block2").eval()
    kept = torch.ones_like(next(wrn.parameters()))
    next(wrn.parameters()).grad = kept
    before, random_state = state(wrn), torch.get_rng_state()
    modules = dict(wrn.named_modules())
    modes, given = [m.training for m in wrn.modules()], images.clone()
    found = explainer(method)(wrn, images, labels).maps
    same(found, expected)  # as in evaluation mode
    assert torch.equal(images, given)
    assert not images.requires_grad
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [m.training for m in wrn.modules()] == modes
    assert hooks(wrn) == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in wrn.state_dict().items())
    assert next(wrn.parameters()).grad is kept
    assert bool((kept == 1).all())
    assert all(p.grad is None for p in list(wrn.parameters())[1:])
    assert dict(wrn.named_modules()) == modules
    assert not any("forward" in vars(m) for m in wrn.modules())


@pytest.mark.parametrize("method", ATTRIBUTIONS)
def test_a_frozen_network_where_gradients_are_off(
    wrn: StagedNetwork, images: Tensor, labels: Tensor, method: str
) -> None:
    expected = explainer(method)(wrn, images, labels).maps
    assert not expected.requires_grad
    wrn.requires_grad_(False)
    same(explainer(method)(wrn, images, labels).maps, expected)
    with torch.no_grad():
        same(explainer(method)(wrn, images, labels).maps, expected)
    with torch.inference_mode():
        found = explainer(method)(wrn, images.clone(), labels.clone()).maps
    same(found, expected)
    same(found * torch.ones((), dtype=found.dtype, requires_grad=True), expected)  # no tensor of inference mode
    assert not any(p.requires_grad for p in wrn.parameters())


@pytest.mark.parametrize("method", ATTRIBUTIONS)
def test_neighbours_and_chunks_do_not_matter(wrn: StagedNetwork, images: Tensor, labels: Tensor, method: str) -> None:
    together = explainer(method)(wrn, images, labels).maps
    close = partial(torch.testing.assert_close, rtol=1e-6, atol=1e-6 * float(together.amax()))
    for size in (1, 3, 7):
        close(explainer(method, images_at_a_time=size)(wrn, images, labels).maps, together)
    alone = explainer(method)(wrn, images[2:3], labels[2:3]).maps
    close(alone, together[2:3])
    order = torch.tensor([3, 1, 0, 2])
    shuffled = explainer(method)(wrn, images[order], labels[order]).maps
    close(shuffled, together[order])


@pytest.mark.parametrize("method", ATTRIBUTIONS)
@pytest.mark.parametrize("rows", [5, 16])
def test_no_more_rows_than_asked_for_pass_at_once(
    wrn: StagedNetwork, images: Tensor, labels: Tensor, method: str, rows: int
) -> None:
    seen: list[int] = []
    handle = wrn.network.get_submodule("conv1").register_forward_pre_hook(lambda _m, given: seen.append(len(given[0])))
    explainer(method, images_at_a_time=rows)(wrn, images, labels)
    handle.remove()
    assert 0 < max(seen) <= rows


@pytest.mark.parametrize("method", SEEDED)
def test_equal_seeds_give_equal_maps(wrn: StagedNetwork, images: Tensor, labels: Tensor, method: str) -> None:
    first = explainer(method, seed=4)(wrn, images, labels).maps
    torch.manual_seed(99)
    assert torch.equal(explainer(method, seed=4)(wrn, images, labels).maps, first)
    assert not torch.allclose(explainer(method, seed=5)(wrn, images, labels).maps, first)


@pytest.mark.parametrize("method", ATTRIBUTIONS)
def test_clips_have_maps_of_their_own_size(method: str) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv3d(2, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool3d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 3),
    ).eval()
    options = QUICK.get(method, {}) | ({"window": 2, "stride": 1} if method == "occlusion" else {})
    maps = Explainer(method, "1", options=options)(network, torch.rand(2, 2, 3, 4, 5), torch.tensor([0, 2])).maps
    assert maps.shape == (2, 3, 4, 5)
    assert float(maps.amax()) > 0


@pytest.mark.parametrize("method", ATTRIBUTIONS)
def test_mixed_precision(wrn32: StagedNetwork, images: Tensor, labels: Tensor, method: str) -> None:
    images = images.float()
    expected = explainer(method)(wrn32, images, labels).maps
    with torch.autocast("cpu", torch.bfloat16):
        maps = explainer(method)(wrn32, images, labels).maps
    assert maps.dtype == torch.float32
    cosine = torch.cosine_similarity(maps.flatten(1), expected.flatten(1))
    assert float(cosine.median()) > 0.8
