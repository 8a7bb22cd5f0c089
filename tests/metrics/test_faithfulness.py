"""Average drop, increase in confidence, win rate, coherency and ADCC."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distill.metrics import (
    AverageDrop,
    IncreaseInConfidence,
    WinRate,
    adcc,
    average_drop,
    baseline_images,
    coherency,
    complexity,
    increase_in_confidence,
    mask_images,
    tie,
    win,
)
from distill.metrics.perturbation import Baseline
from tests.metrics.extractor import FixedMaps, color_classifier
from tests.metrics.inputs import NAN, as_tensor, close, random, rows
from tests.oracles import figures


def test_drop_matches_the_oracle() -> None:
    before, after = random(30), random(30, seed=4)
    before[3] = 0
    expected = [figures.drop(y, o) for y, o in zip(before.tolist(), after.tolist(), strict=True)]
    close(average_drop(before, after), as_tensor(expected))


def test_drop_and_increase_match_torchcam() -> None:
    metrics = pytest.importorskip("torchcam.metrics")
    images, maps = random(6, 3, 8, 8).float(), random(6, 8, 8, seed=4).float()
    maps = maps / maps.amax((1, 2), keepdim=True)
    model = color_classifier()
    labels = ((model(images).argmax(1) + torch.tensor([0, 0, 0, 1, 1, 1])) % 3).tolist()
    theirs = metrics.ClassificationMetric(FixedMaps(model, maps), lambda z: z.softmax(-1))
    theirs.update(images, labels)
    at = torch.arange(6), torch.tensor(labels)
    before, after = (model(x).softmax(-1)[at] for x in (images, mask_images(images, maps)))
    drop, increase = AverageDrop(), IncreaseInConfidence()
    drop.update(before, after)
    increase.update(before, after)
    summary = theirs.summary()
    assert 0 < summary["conf_increase"] < 1
    assert summary["avg_drop"] > 0.05
    assert float(increase.compute().value) == pytest.approx(summary["conf_increase"], abs=1e-7)
    # theirs adds 1e-7 to the probability below
    assert float(drop.compute().value) == pytest.approx(summary["avg_drop"], abs=1e-6)


def test_what_has_no_drop_is_left_out_and_counted() -> None:
    before, after = torch.tensor([0.8, 0.0, NAN, 0.5]), torch.tensor([0.4, 0.1, 0.2, NAN])
    drop, increase = AverageDrop(), IncreaseInConfidence()
    drop.update(before, after)
    increase.update(before, after)
    assert [float(part) for part in drop.compute()] == [0.5, 1, 3]
    assert [float(part) for part in increase.compute()] == [0.5, 2, 2]


def test_an_equal_probability_is_no_increase() -> None:
    assert increase_in_confidence(torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.6])).tolist() == [0.0, 1.0]


def test_a_tie_is_no_win() -> None:
    before = torch.tensor([0.8, 0.8, 0.8, 0.8, NAN])
    own, other = torch.tensor([0.7, 0.6, 0.9, 0.4, 0.5]), torch.tensor([0.6, 0.7, 0.95, 0.4, 0.5])
    close(win(before, own, other), as_tensor([1.0, 0.0, 0.0, 0.0, None]))
    close(tie(before, own, other), as_tensor([0.0, 0.0, 1.0, 1.0, None]))
    lost = win(before, other, own)
    close(win(before, own, other) + lost + tie(before, own, other), as_tensor([1.0, 1.0, 1.0, 1.0, None]))


def test_another_network_drops_from_its_own_probability() -> None:
    before, own = torch.tensor([0.8]), torch.tensor([0.4])
    other_before, other = torch.tensor([0.2]), torch.tensor([0.15])
    assert win(before, own, other).tolist() == [1.0]
    assert win(before, own, other, other_probability=other_before).tolist() == [0.0]
    metric = WinRate()
    metric.update(before, own, other, other_probability=other_before)
    assert float(metric.compute().value) == 0.0


@pytest.mark.parametrize("baseline", ["zero", "blur"])
@pytest.mark.parametrize("size", [(6, 7), (4, 3)])
def test_masked_images_match_the_oracle(baseline: Baseline, size: tuple[int, int]) -> None:
    images, maps = random(3, 2, *size), random(3, 4, 4, seed=4) * 5 - 1
    maps[1] = 0
    got = mask_images(images, maps, baseline=baseline)
    for image, heat, result in zip(images.numpy(), maps.numpy(), got, strict=True):
        close(result, torch.tensor(figures.masked(image, heat, baseline)))


def test_an_empty_map_leaves_the_baseline() -> None:
    images = random(2, 3, 8, 8)
    assert mask_images(images, torch.zeros(2, 4, 4)).abs().max() == 0
    close(mask_images(images, torch.zeros(2, 4, 4), baseline="blur"), baseline_images(images, "blur"))


def test_a_bright_map_leaves_the_image() -> None:
    images = random(2, 3, 8, 8).float()
    for baseline in ("zero", "blur"):
        torch.testing.assert_close(mask_images(images, torch.full((2, 4, 4), 7.0), baseline=baseline), images)


def test_a_bright_map_does_not_trick_adcc() -> None:
    """Nothing drops, the map of the same image is the same map; but it shows everything."""
    images, even = random(4, 3, 8, 8), torch.ones(4, 8, 8, dtype=torch.float64)
    model = color_classifier().double()
    before, after = (model(x).softmax(-1)[:, 0] for x in (images, mask_images(images, even)))
    drop, shown = average_drop(before, after), complexity(even)
    assert drop.tolist() == [0.0] * 4
    assert shown.tolist() == [1.0] * 4
    assert adcc(torch.ones(4), shown, drop).tolist() == [0.0] * 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_images_keep_their_precision(dtype: torch.dtype) -> None:
    images, maps = random(2, 3, 8, 8).to(dtype), random(2, 4, 4, seed=4).to(dtype)
    for baseline in ("zero", "blur"):
        got = mask_images(images, maps, baseline=baseline)
        assert got.dtype == dtype
        close(got.double(), mask_images(images.double(), maps.double(), baseline=baseline), atol=0.01)


def test_coherency_matches_the_oracle() -> None:
    one, other = random(5, 4, 4), random(5, 4, 4, seed=4)
    one[2] = 0.5
    correlations = [figures.pearson(a, b) for a, b in zip(rows(one), rows(other), strict=True)]
    close(coherency(one, other), as_tensor([None if r is None else (1 + r) / 2 for r in correlations]))
    close(coherency(one, -3 * one + 2)[:2], torch.zeros(2))


def test_adcc_matches_the_oracle() -> None:
    parts: list[Tensor] = list(random(3, 40))
    for i, worst in enumerate((0.0, 1.0, 1.0)):
        parts[i][i] = worst
    expected = [figures.adcc(*triple) for triple in zip(*(part.tolist() for part in parts), strict=True)]
    close(adcc(*parts), as_tensor(expected))
    assert expected[:3] == [0.0, 0.0, 0.0]


def test_adcc_of_the_best_and_of_all_that_is_worst() -> None:
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    assert adcc(one, zero, zero).item() == 1.0
    assert adcc(zero, one, one).item() == 0.0


@pytest.mark.usefixtures("unchecked")
def test_a_baseline_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="`baseline` must be one of zero, blur, got 'mean'"):
        mask_images(torch.ones(1, 1, 2, 2), torch.ones(1, 2, 2), baseline="mean")  # type: ignore[arg-type]


@pytest.mark.usefixtures("unchecked")
def test_maps_of_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one map per image, got 1 maps for 2 images"):
        mask_images(torch.ones(2, 1, 2, 2), torch.ones(1, 2, 2))
