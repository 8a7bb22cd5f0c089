"""Scores of every image: each figure is the metric of that image alone, whatever the batches are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from distill import metrics
from distill.evaluation import (
    CachedOutput,
    EvaluationCache,
    EvaluationSettings,
    ImageScores,
    MapSettings,
    evaluate,
)
from distill.evaluation.image_scores import STRATA, Column, score_images
from distill.evaluation.job import ComparedNetworks, EvaluationJob
from distill.evaluation.sampling import blocks, other_images, sample
from distill.explain import Explainer
from distill.maps import resize_maps
from distill.models import StagedNetwork
from distill.teachers import ViewStore
from tests.evaluation.checks import image_set, network
from tests.metrics import oracle

SIZE = (16, 16)
SETTINGS = EvaluationSettings(perturbed=0, held_out=(), sanity=0, resamples=0)


def scored(batch_size: int = 4, count: int = 10) -> dict[str, ImageScores]:
    nets = {"teacher": network(1), "student": network(2)}
    found = evaluate(
        nets,
        reference="teacher",
        sets={"plain": image_set(count)},
        maps=MapSettings(layer="group2"),
        settings=SETTINGS,
        batch_size=batch_size,
    )
    return found.scores["plain"]


def alone(net: StagedNetwork, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    explained = Explainer(layer="group2")(net.eval(), image, label)
    return explained.logits, resize_maps(explained.maps, SIZE)


Pair = dict[str, tuple[Tensor, Tensor]]
OF_ONE_PASS: dict[str, Callable[[Pair, Tensor], Tensor]] = {
    "agreement": lambda p, _: metrics.top_one_agreement(p["student"][0], p["teacher"][0]),
    "output_kl": lambda p, _: metrics.output_kl(p["student"][0], p["teacher"][0]),
    "map_cosine": lambda p, _: metrics.map_cosine(p["student"][1], p["teacher"][1]),
    "map_pearson": lambda p, _: metrics.map_pearson(p["student"][1], p["teacher"][1]),
    "map_spearman": lambda p, _: metrics.map_spearman(p["student"][1], p["teacher"][1]),
    "map_ssim": lambda p, _: metrics.map_ssim(p["student"][1], p["teacher"][1]),
    "map_top_iou": lambda p, _: metrics.map_top_iou(p["student"][1], p["teacher"][1]),
    "map_jensen_shannon": lambda p, _: metrics.map_jensen_shannon(p["student"][1], p["teacher"][1]),
    "energy_in_object": lambda p, mask: metrics.energy_in_mask(p["student"][1], mask),
    "pointing_game": lambda p, mask: metrics.pointing_game(p["student"][1], mask),
    "box_localization_0": lambda p, mask: metrics.box_localization(p["student"][1], mask, delta=0.0),
    "box_localization_25": lambda p, mask: metrics.box_localization(p["student"][1], mask, delta=0.25),
    "box_localization_50": lambda p, mask: metrics.box_localization(p["student"][1], mask, delta=0.5),
    "instances_hit": lambda p, mask: metrics.instances_hit(p["student"][1], mask),
    "complexity": lambda p, _: metrics.complexity(p["student"][1]),
    "gini": lambda p, _: metrics.gini(p["student"][1]),
    "entropy": lambda p, _: metrics.entropy(p["student"][1]),
    "zero_maps": lambda p, _: metrics.zero_map(p["student"][1]),
    "nan_maps": lambda p, _: metrics.nan_map(p["student"][1]),
    "constant_maps": lambda p, _: metrics.constant_map(p["student"][1]),
}


@pytest.mark.parametrize("batch_size", [3, 64])
def test_every_figure_is_the_metric_of_that_image_alone(batch_size: int) -> None:
    data, scores = image_set(), scored(batch_size)["student"]
    nets = {"teacher": network(1), "student": network(2)}
    assert data.masks is not None
    for i in range(len(data)):
        image, label = data.images[i : i + 1].float() / 255, data.labels[i : i + 1]
        explained = {name: alone(net, image, label) for name, net in nets.items()}
        expected = {name: metric(explained, data.masks[i : i + 1]) for name, metric in OF_ONE_PASS.items()}
        drops = {}
        for name, net in nets.items():
            logits, heat = explained[name]
            left_logits, left_heat = alone(net, image * heat[:, None] / heat.max(), label)
            drops[name] = [z.softmax(1)[:, int(label)] for z in (logits, left_logits)]
            if name == "student":
                expected["coherency"] = metrics.coherency(heat, left_heat)
        before, after = drops["student"]
        expected["average_drop"] = metrics.average_drop(before, after)
        expected["increase_in_confidence"] = (after > before).float()
        expected["win_rate"] = (metrics.average_drop(before, after) < metrics.average_drop(*drops["teacher"])).float()
        for name, value in expected.items():
            assert scores.columns[name].values[i] == pytest.approx(float(value), abs=2e-4, nan_ok=True), name
        assert scores.predicted[i] == int(explained["student"][0].argmax())
        assert scores.probability[i] == pytest.approx(float(explained["student"][0].softmax(1).max()), abs=1e-5)


def test_no_score_depends_on_the_batches() -> None:
    one, other = scored(3)["student"], scored(64)["student"]
    assert one.columns.keys() == other.columns.keys()
    for name, column in one.columns.items():
        assert np.allclose(column.values, other.columns[name].values, atol=1e-4, equal_nan=True), name


def test_the_floor_is_the_cosine_with_the_map_of_another_image() -> None:
    data, floor = image_set(), scored()["student"].columns["map_cosine_floor"].values
    explained = {
        name: alone(network(seed), data.images.float() / 255, data.labels)[1].double().numpy()
        for name, seed in (("teacher", 1), ("student", 2))
    }
    others = other_images(len(data), seed=0)
    assert floor == pytest.approx(np.array(oracle.cosine(explained["student"], explained["teacher"][others])), abs=1e-5)


def test_one_image_alone_has_no_floor() -> None:
    assert np.isnan(scored(count=1)["student"].columns["map_cosine_floor"].values).all()


def test_blocks_change_no_score_but_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scored()["student"]
    monkeypatch.setattr("distill.evaluation.image_scores.blocks", lambda total: blocks(total, 4))
    dealt = scored()["student"]
    assert np.array_equal(whole.label, dealt.label)
    assert np.array_equal(whole.predicted, dealt.predicted)
    for name, column in whole.columns.items():
        same = np.allclose(column.values, dealt.columns[name].values, atol=1e-4, equal_nan=True)
        assert same == (name != "map_cosine_floor"), name


@pytest.mark.parametrize("total", [2, 3, 10, 1001])
def test_partners_are_others_and_each_is_one_once(total: int) -> None:
    found = other_images(total, seed=3)
    assert sorted(found) == list(range(total))
    assert (found != np.arange(total)).all()
    assert np.array_equal(found, other_images(total, seed=3))


def test_what_is_drawn_is_pinned() -> None:
    assert sample(10, 4, seed=0) == [0, 2, 9, 1]
    assert sample(10, 4, seed=1) != sample(10, 4, seed=0)
    assert sorted(sample(10, 50, seed=0)) == list(range(10))
    assert other_images(5, seed=0).tolist() != other_images(5, seed=0, stream=1).tolist()


def test_blocks_hold_every_image_once_and_are_even() -> None:
    dealt = blocks(2500, 1024)
    assert sorted(np.concatenate(dealt)) == list(range(2500))
    assert {len(block) for block in dealt} == {833, 834}


def test_strata_by_hand() -> None:
    # label, the teacher's choice, the student's
    cases = {
        (0, 0, 0): "both_right",
        (0, 0, 1): "only_reference",
        (0, 1, 0): "only_network",
        (0, 1, 1): "same_wrong",
        (0, 1, 2): "different_wrong",
    }
    scores = score_choices([*cases])
    assert scores.stratum is not None
    assert [STRATA[code] for code in scores.stratum] == [*cases.values()]


def score_choices(choices: list[tuple[int, int, int]]) -> ImageScores:
    """Scores of a student beside a teacher, both of which choose what they are told."""
    data = image_set(len(choices))
    data.labels.copy_(torch.tensor([label for label, _, _ in choices]))
    nets = {"teacher": network(1), "student": network(2)}
    networks = ComparedNetworks(nets, "teacher", MapSettings())
    caches = {}
    for column, name in enumerate(nets, start=1):
        caches[name] = EvaluationCache(ViewStore(images=len(data), views=1, width=3 + 4), (2, 2))
        chosen = torch.nn.functional.one_hot(torch.tensor([choice[column] for choice in choices]), 3).float()
        caches[name].add(torch.arange(len(data)), CachedOutput(chosen, torch.ones(len(data), 2, 2)))
    job = EvaluationJob(networks, "plain", data, 64, caches=caches)
    return score_images(job, masked=False, seed=0).networks["student"]


def test_some_images_have_a_figure() -> None:
    scores = scored()["student"].add_figures({"deletion_auc": torch.tensor([0.25, torch.nan])}, [7, 2])
    column = scores.columns["deletion_auc"]
    assert isinstance(column, Column)
    assert column.measured is not None
    assert np.flatnonzero(column.measured).tolist() == [2, 7]
    assert column.values[7] == 0.25
    assert np.isnan(np.delete(column.values, 7)).all()
