"""Compare RISE with a loop over sites with the same masks, and check that it finds the decisive region."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from distill.explain import Explainer
from distill.explain.held_out import rise_masks
from distill.models import StagedNetwork
from tests.oracles import rise as oracle


def test_masks_are_enlarged_grids_cut_out_at_random() -> None:
    generator = torch.Generator().manual_seed(6)
    grids = (torch.rand(5, 3, 3, generator=generator) < 0.4).double().numpy()
    shifts = torch.stack([torch.randint(0, cell, (5,), generator=generator) for cell in (3, 4)], 1).tolist()
    expected = np.stack([oracle.mask(g, (s[0], s[1]), 8, 11) for g, s in zip(grids, shifts, strict=True)])
    (found,) = rise_masks(5, (8, 11), cells=3, keep=0.4, seed=6)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    assert len({tuple(shift) for shift in shifts}) > 1


def test_masks_show_as_much_as_is_kept_everywhere_and_lie_between_0_and_1() -> None:
    masks = torch.cat(list(rise_masks(4000, (14, 14), keep=0.3, at_a_time=900)))
    assert masks.shape == (4000, 14, 14)
    assert float(masks.amin()) >= 0
    assert float(masks.amax()) <= 1
    assert float((masks.mean(0) - 0.3).abs().amax()) < 0.03  # 5 standard errors of a mean of 4000


@pytest.mark.parametrize("at_a_time", [1, 4])
def test_how_many_masks_are_made_at_once_changes_none(at_a_time: int) -> None:
    (together,) = rise_masks(9, (8, 8), seed=2)
    assert torch.equal(torch.cat(list(rise_masks(9, (8, 8), seed=2, at_a_time=at_a_time))), together)


def test_maps_are_those_of_a_loop(wrn: StagedNetwork, images: Tensor, labels: Tensor) -> None:
    (masks,) = rise_masks(20, (8, 8), cells=3, keep=0.4, seed=7)
    found = Explainer("rise", options={"masks": 20, "cells": 3, "keep": 0.4, "seed": 7})(wrn, images, labels).maps
    for n in range(len(images)):

        def probability(image: oracle.Array, label: int = int(labels[n])) -> float:
            scores = wrn(torch.from_numpy(image)[None])[0].detach().numpy()
            powers = np.exp(scores - scores.max())
            return float(powers[label] / powers.sum())

        expected = oracle.rise(probability, images[n].numpy(), masks.double().numpy(), 0.4)
        np.testing.assert_allclose(found[n].numpy(), expected, rtol=1e-9)


class Decided(nn.Module):
    """A network that predicts class 1 if any pixel is red."""

    def forward(self, images: Tensor) -> Tensor:
        red = (images[:, 0] - images[:, 1]).relu().flatten(1).mean(1)
        return torch.stack([torch.zeros_like(red), 100 * red - 5], 1)


@pytest.mark.parametrize("corner", [(2, 2), (9, 4)])
def test_what_decides_the_class_has_more_mass_than_the_background(corner: tuple[int, int]) -> None:
    images = torch.full((1, 3, 16, 16), 0.5)
    box = (slice(corner[0], corner[0] + 5), slice(corner[1], corner[1] + 5))
    images[0, 1][box] = 0.0
    images[0, 0][box] = 1.0
    settings = {"masks": 1500}
    maps = Explainer("rise", target=1, options=settings)(Decided(), images).maps[0]
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[box] = True
    assert float(maps[inside].mean()) > 1.2 * float(maps[~inside].mean())
    assert bool(inside.flatten()[maps.argmax()])
    other = Explainer("rise", target=0, options=settings)(Decided(), images).maps[0]
    assert float(other[inside].mean()) < float(other[~inside].mean())
