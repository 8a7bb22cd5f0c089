"""What is measured on images that were drawn: deletion and insertion, other explainers, random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from distill.evaluation import EvaluationSettings, MapSettings, evaluate
from distill.evaluation.sampling import other_images, sample
from distill.explain import Explainer
from distill.maps import normalize_maps, resize_maps
from distill.metrics import area_under, map_spearman, perturbation_curves
from distill.models import StagedNetwork
from distill.models.randomise import cascade
from distill.report.evaluation.record import NetworkScores
from tests.evaluation.checks import image_set, record_of
from tests.metrics import oracle

LAYER = MapSettings(layer="group2")


def measured(
    pair: dict[str, StagedNetwork], settings: EvaluationSettings, batch_size: int = 4
) -> dict[str, NetworkScores]:
    return record_of(pair, image_set(), maps=LAYER, settings=settings, batch_size=batch_size)["sets"]["plain"][
        "networks"
    ]


def test_deletion_and_insertion_are_those_of_the_drawn_images(pair: dict[str, StagedNetwork]) -> None:
    data, drawn = image_set(), sample(10, 5, seed=2)
    settings = EvaluationSettings(masked=False, perturbed=5, steps=4, held_out=(), sanity=0, resamples=0, seed=2)
    found = evaluate(pair, reference="teacher", sets={"plain": data}, maps=LAYER, settings=settings, batch_size=3)
    scores = found.scores["plain"]["student"]
    record = found.record["sets"]["plain"]["networks"]["student"]
    part, net = data.subset(drawn), pair["student"].eval()
    images = part.images.float() / 255
    maps = Explainer(layer="group2")(net, images, part.labels).maps
    assert record["curves"] is not None
    for mode, baseline in (("deletion", "zero"), ("insertion", "blur")):
        with torch.no_grad():
            curves = perturbation_curves(
                lambda some, rows: net(some).softmax(1)[torch.arange(len(rows)), part.labels[rows]],
                images,
                maps,
                mode=mode,  # type: ignore[arg-type]  # a literal
                steps=4,
                baseline=baseline,  # type: ignore[arg-type]  # a literal
            )
        column = scores.columns[f"{mode}_auc"]
        assert column.values[drawn] == pytest.approx(area_under(curves).numpy(), abs=1e-5)
        assert column.measured is not None
        assert sorted(drawn) == np.flatnonzero(column.measured).tolist()
        curve = record["curves"][mode]  # type: ignore[literal-required]  # one of two
        assert curve["n"] == 5
        assert curve["fractions"] == [0, 0.25, 0.5, 0.75, 1]
        assert curve["probability"] == pytest.approx(curves.scores.mean(0).tolist(), abs=1e-5)
        assert record["figures"][f"{mode}_auc"] == {
            "value": pytest.approx(float(area_under(curves).mean()), abs=1e-5),
            "low": None,
            "high": None,
            "n": 5,
            "excluded": 0,
        }
    whole = record["curves"]["deletion"]["probability"][0]
    assert whole == pytest.approx(record["curves"]["insertion"]["probability"][-1], abs=1e-6)  # the image as it is


def test_nothing_is_drawn_where_nothing_is_asked_for(pair: dict[str, StagedNetwork]) -> None:
    settings = EvaluationSettings(
        masked=False, perturbed=0, held_out=("hires_cam",), explained=0, sanity=0, resamples=0
    )
    for scores in measured(pair, settings).values():
        assert scores["curves"] is None
        assert scores["figures"]["deletion_auc"] is None
        assert scores["held_out"] == {}
        assert scores["sanity"] is None


def test_another_explainer_is_compared_as_the_own_one_is(pair: dict[str, StagedNetwork]) -> None:
    data, drawn = image_set(), sample(10, 6, seed=0)
    settings = EvaluationSettings(
        masked=False, perturbed=0, held_out=("hires_cam", "grad_cam"), explained=6, sanity=0, resamples=50
    )
    found = measured(pair, settings)
    part = data.subset(drawn)
    maps = {
        name: resize_maps(
            Explainer("hires_cam", "group2")(net.eval(), part.images.float() / 255, part.labels).maps, (16, 16)
        )
        for name, net in pair.items()
    }
    heat = {name: value.double().numpy() for name, value in maps.items()}
    assert part.masks is not None
    assert list(found["student"]["held_out"]) == ["hires_cam", "grad_cam"]
    got = found["student"]["held_out"]["hires_cam"]
    expected = {
        "map_cosine": oracle.cosine(heat["student"], heat["teacher"]),
        "map_cosine_floor": oracle.cosine(heat["student"], heat["teacher"][other_images(6, seed=0)]),
        "map_spearman": map_spearman(maps["student"], maps["teacher"]).tolist(),
        "energy_in_object": oracle.energy(heat["student"], part.masks.numpy()),
    }
    for figure, scores in expected.items():
        entry = got[figure]  # type: ignore[literal-required]  # a key of the loop
        known = [score for score in scores if score is not None]
        assert entry["value"] == pytest.approx(float(np.mean(known)), abs=1e-3), figure  # ranks flip by rounding
        assert (entry["n"], entry["excluded"]) == (len(known), 6 - len(known))
        assert entry["low"] <= entry["value"] <= entry["high"]
    own = found["teacher"]["held_out"]["hires_cam"]
    assert own["map_cosine"] is None
    assert own["map_cosine_floor"] is None
    assert own["energy_in_object"] is not None


def test_maps_are_held_against_those_of_random_weights(pair: dict[str, StagedNetwork]) -> None:
    data, drawn = image_set(), sample(10, 4, seed=5)
    settings = EvaluationSettings(masked=False, perturbed=0, held_out=(), sanity=4, resamples=50, seed=5)
    found = measured(pair, settings, batch_size=3)["student"]["sanity"]
    assert found is not None
    part, net = data.subset(drawn), pair["student"].eval()
    images = part.images.float() / 255
    own = resize_maps(Explainer(layer="group2")(net, images, part.labels).maps, (16, 16))
    parts = list(cascade(net, seed=5))
    assert [entry["part"] for entry in found] == [name for name, _ in parts]
    for entry, (_, changed) in zip(found, parts, strict=True):
        maps = resize_maps(Explainer(layer="group2")(changed, images, part.labels).maps, (16, 16))
        ssim = [
            float(torch.as_tensor(structural_similarity_index_measure(a[None, None], b[None, None], data_range=1.0)))
            for a, b in zip(normalize_maps(own, "max"), normalize_maps(maps, "max"), strict=True)
            if a.any() and b.any()
        ]
        spearman = map_spearman(own, maps)
        spearman = spearman[~spearman.isnan()]
        assert entry["spearman"]["n"] == len(spearman)
        if ssim:
            assert entry["ssim"]["value"] == pytest.approx(float(np.mean(ssim)), abs=1e-4)
            assert entry["spearman"]["value"] == pytest.approx(float(spearman.mean()), abs=1e-4)
        assert entry["ssim"]["n"] + entry["ssim"]["excluded"] == 4


def test_progress_counts_what_is_done(pair: dict[str, StagedNetwork]) -> None:
    steps: dict[str, list[tuple[int, int]]] = {}
    settings = EvaluationSettings(perturbed=5, steps=2, held_out=("hires_cam",), explained=5, sanity=4, resamples=0)
    record_of(
        pair,
        image_set(),
        settings=settings,
        batch_size=4,
        progress=lambda what, done, total: steps.setdefault(what, []).append((done, total)),
    )
    assert list(steps) == ["plain", "plain: deletion, insertion", "plain: hires_cam", "plain: random weights"]
    assert all(seen[0][0] == 0 for seen in steps.values())  # told before the first batch, which may take long
    assert {what: seen[-1] for what, seen in steps.items()} == {
        "plain": (10, 10),
        "plain: deletion, insertion": (10, 10),  # five images of two networks
        "plain: hires_cam": (10, 10),
        "plain: random weights": (8, 8),
    }
