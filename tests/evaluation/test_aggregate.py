"""Scores -> figures with intervals, strata, histograms, comparisons."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from distill.evaluation import Column, EvaluationSettings, ImageScores
from distill.evaluation.aggregate import compare_networks, mean_columns, pairs, summarise
from distill.metrics import adcc
from distill.metrics.significance import holm

SETTINGS = EvaluationSettings(resamples=400)


def made_up(seed: int = 0, n: int = 300, shift: float = 0.0) -> ImageScores:
    draw = np.random.default_rng(seed)

    def column(low: float = 0.0, high: float = 1.0) -> Column:
        return Column(draw.uniform(low, high, n).astype(np.float32))

    probability = draw.uniform(0.2, 1.0, n).astype(np.float32)
    right = (draw.random(n) < probability - 0.1).astype(np.float32)
    cosine = np.clip(draw.normal(0.6 + shift, 0.1, n), 0, 1).astype(np.float32)
    cosine[:7] = np.nan
    return ImageScores(
        label=np.zeros(n, dtype=np.int64),
        predicted=(1 - right).astype(np.int64),
        probability=probability,
        stratum=(np.arange(n) % 5).astype(np.int8),
        columns={
            "accuracy": Column(right),
            "map_cosine": Column(cosine),
            "coherency": column(0.5),
            "complexity": column(0.1, 0.4),
            "average_drop": column(),
        },
    )


def test_an_interval_lies_where_the_normal_one_does() -> None:
    scores = np.random.default_rng(1).normal(0.5, 0.2, 900).astype(np.float32)
    found = mean_columns({"accuracy": Column(scores)}, EvaluationSettings(resamples=2000))["accuracy"]
    error = 1.96 * float(scores.std()) / 30
    assert found["value"] == pytest.approx(float(scores.astype(np.float64).mean()), abs=1e-12)
    assert found["low"] == pytest.approx(float(scores.mean() - error), abs=error / 10)
    assert found["high"] == pytest.approx(float(scores.mean() + error), abs=error / 10)


def test_what_is_excluded_and_what_was_not_looked_at_are_two_things() -> None:
    looked = np.array([True, True, True, False, False])
    column = Column(np.array([0.5, 1.0, np.nan, np.nan, 3.0], dtype=np.float32), looked)
    found = mean_columns({"deletion_auc": column}, SETTINGS)["deletion_auc"]
    assert (found["value"], found["n"], found["excluded"]) == (0.75, 2, 1)


def test_a_single_score_has_no_interval() -> None:
    found = mean_columns({"accuracy": Column(np.array([1.0], dtype=np.float32))}, SETTINGS)["accuracy"]
    assert found == {"value": 1.0, "low": None, "high": None, "n": 1, "excluded": 0}


def test_strata_and_histogram_are_of_their_own_images() -> None:
    scores = made_up()
    found = summarise(scores, settings=SETTINGS)
    cosine = scores.columns["map_cosine"].values
    assert found["strata"] is not None
    assert scores.stratum is not None
    for code, entry in enumerate(found["strata"].values()):
        own = cosine[scores.stratum == code]
        assert entry["n"] == len(own) == 60
        assert entry["map_cosine"]["n"] + entry["map_cosine"]["excluded"] == 60
        assert entry["map_cosine"]["value"] == pytest.approx(float(np.nanmean(own.astype(np.float64))), abs=1e-9)
    histogram = found["histogram"]
    assert histogram is not None
    assert len(histogram["edges"]) == len(histogram["counts"]) + 1 == 21
    assert (histogram["edges"][0], histogram["edges"][-1]) == (0.0, 1.0)
    assert sum(histogram["counts"]) == 293
    assert histogram["counts"][12] == int(((cosine >= 0.6) & (cosine < 0.65)).sum())


def test_the_calibration_error_is_of_all_images_together() -> None:
    scores = made_up()
    found = summarise(scores, settings=SETTINGS)["figures"]["calibration_error"]
    two = torch.stack([1 - torch.from_numpy(scores.probability), torch.from_numpy(scores.probability)], 1)
    right = torch.from_numpy(scores.columns["accuracy"].values).long()
    chosen = two.argmax(1)
    keep = chosen == 1  # torchmetrics takes the larger of the two as the confidence
    assert keep.float().mean() > 0.5
    expected = multiclass_calibration_error(two[keep], right[keep], num_classes=2, n_bins=15)
    part = ImageScores(
        scores.label[keep],
        scores.predicted[keep],
        scores.probability[keep],
        None,
        {"accuracy": Column(scores.columns["accuracy"].values[keep])},
    )
    of_part = summarise(part, settings=SETTINGS)["figures"]["calibration_error"]
    assert of_part is not None
    assert of_part["value"] == pytest.approx(float(expected), abs=1e-5)
    assert found is not None
    assert found["low"] is not None
    assert found["high"] is not None
    assert found["low"] < 0.1 + 0.05 < found["high"] + 0.1  # right a tenth less often than it is sure
    assert found["high"] - found["low"] < 0.15


def test_adcc_is_of_the_means() -> None:
    scores = made_up()
    found = summarise(scores, settings=SETTINGS)["figures"]["adcc"]
    means = [
        torch.tensor(scores.columns[name].values.astype(np.float64).mean())
        for name in ("coherency", "complexity", "average_drop")
    ]
    assert found is not None
    assert found["value"] == pytest.approx(float(adcc(*means)), abs=1e-9)
    assert found["low"] is not None
    assert found["high"] is not None
    assert found["low"] < found["value"] < found["high"]  # type: ignore[operator]  # checked above
    assert (found["n"], found["excluded"]) == (300, 0)


def test_comparisons_find_a_shift_and_no_more() -> None:
    scores = {"teacher": made_up(9), "a": made_up(1), "b": made_up(2), "far": made_up(3, shift=0.2)}
    found = compare_networks(scores, reference="teacher", settings=SETTINGS)
    assert [(e["first"], e["second"]) for e in found if e["figure"] == "map_cosine"] == [
        ("a", "b"),
        ("a", "far"),
        ("b", "far"),
    ]
    by = {(entry["figure"], entry["first"], entry["second"]): entry for entry in found}
    shifted = by["map_cosine", "a", "far"]
    assert shifted["p_holm"] < 1e-6
    assert shifted["difference"] == pytest.approx(-0.2, abs=0.03)
    assert shifted["low"] < shifted["difference"] < shifted["high"] < 0
    assert shifted["effect"] < -0.5
    assert shifted["n"] == 293
    assert by["map_cosine", "a", "b"]["p_holm"] > 0.05
    assert [e["p_holm"] for e in found] == pytest.approx(holm([e["p"] for e in found]))
    assert {entry["figure"] for entry in found} == {"accuracy", "map_cosine", "average_drop"}


def test_many_networks_are_compared_with_the_first() -> None:
    assert len(pairs("abcde")) == 10
    assert pairs("abcdef") == [("a", other) for other in "bcdef"]
    assert pairs("a") == []
