"""Networks -> record: figures against a slow loop, what is not measured, and nothing changed by looking."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy

from distill.data import FashionScenes, ImageSet
from distill.evaluation import (
    ONE_PASS,
    EvaluationSettings,
    MapSettings,
    evaluate,
)
from distill.explain import Explainer
from distill.metrics.names import METRIC_INFO
from distill.models import StagedNetwork
from distill.report import EvaluationRecord, load_record, save_record
from distill.report.evaluation.record import Measured
from tests.evaluation.checks import CLASSES, figures_of, image_set, network, record_of
from tests.metrics import oracle
from tests.oracles.maps import resize


def mean(scores: list[float | None]) -> dict[str, float | int | None]:
    kept = [score for score in scores if score is not None]
    return {**known(math.fsum(kept) / len(kept)), "n": len(kept), "excluded": len(scores) - len(kept)}


def known(value: float | None, n: int = 10, excluded: int = 0) -> dict[str, float | int | None]:
    return {"value": value, "low": None, "high": None, "n": n, "excluded": excluded}


@pytest.mark.parametrize("batch_size", [3, 64])
@pytest.mark.parametrize(("method", "layer"), [("grad_cam_pp", "final"), ("grad_cam", "group2"), ("saliency", "final")])
def test_figures_match_a_slow_loop(pair: dict[str, StagedNetwork], batch_size: int, method: str, layer: str) -> None:
    data = image_set()
    got = figures_of(pair, data, maps=MapSettings(method=method, layer=layer), batch_size=batch_size)
    logits, maps = {}, {}
    for name, net in pair.items():
        explained = Explainer(method, layer)(net.eval(), data.images.float() / 255, data.labels)
        logits[name], maps[name] = explained.logits, resize(explained.maps.double().numpy(), (16, 16))
    assert data.masks is not None
    assert got["accuracy"]["value"] == pytest.approx(
        float(multiclass_accuracy(logits["student"], data.labels, num_classes=3, average="micro")), abs=1e-6
    )
    assert got["agreement"] == mean([*oracle.agreement(logits["student"].numpy(), logits["teacher"].numpy())])
    for key, scores in (
        ("map_cosine", oracle.cosine(maps["student"], maps["teacher"])),
        ("energy_in_object", oracle.energy(maps["student"], data.masks.numpy())),
    ):
        assert got[key] == pytest.approx(mean(scores), abs=1e-5)
    zero = sum(not heat.any() for heat in maps["student"]) / len(data)
    assert got["zero_maps"] == known(zero)


def test_every_figure_is_measured_or_said_not_to_be(pair: dict[str, StagedNetwork]) -> None:
    settings = EvaluationSettings(perturbed=4, held_out=(), sanity=0, resamples=50)
    networks = record_of(pair, image_set(), settings=settings)["sets"]["plain"]["networks"]
    assert list(networks["student"]["figures"]) == list(networks["teacher"]["figures"]) == list(METRIC_INFO)
    assert [name for name, entry in networks["student"]["figures"].items() if entry is None] == []
    alone = {name for name, entry in networks["teacher"]["figures"].items() if entry is None}
    assert alone == {name for name, m in METRIC_INFO.items() if m.group == "agreement"} | {
        "agreement",
        "output_kl",
        "win_rate",
    }
    one_pass = figures_of(pair, image_set())
    assert {name for name, entry in one_pass.items() if entry is None} == {
        "average_drop",
        "increase_in_confidence",
        "win_rate",
        "coherency",
        "adcc",
        "deletion_auc",
        "insertion_auc",
    }


def test_an_image_without_an_object_is_left_out_and_counted(pair: dict[str, StagedNetwork]) -> None:
    figures = figures_of(pair, image_set(), of="teacher")
    for name in ("energy_in_object", "pointing_game", "box_localization_50", "instances_hit"):
        assert figures[name]["n"] + figures[name]["excluded"] == 10
        assert figures[name]["excluded"] >= 1


def test_a_network_agrees_with_itself() -> None:
    net = network(1)
    scores = record_of({"a": net, "b": net}, image_set(), reference="a")["sets"]["plain"]["networks"]
    own, other = scores["a"]["figures"], scores["b"]["figures"]
    assert other["agreement"] == known(1.0)
    for name in ("map_cosine", "map_pearson", "map_spearman", "map_ssim", "map_top_iou"):
        assert value(other[name]) == pytest.approx(1.0, abs=1e-5)
    assert value(other["output_kl"]) == pytest.approx(0.0, abs=1e-6)
    assert value(other["map_jensen_shannon"]) == pytest.approx(0.0, abs=1e-5)
    assert value(other["map_cosine_floor"]) < 1
    assert own["agreement"] is None
    assert own["map_cosine"] is None
    assert own["accuracy"] == other["accuracy"]
    assert own["energy_in_object"] == other["energy_in_object"]


def value(entry: Measured | None) -> float:
    assert entry is not None
    assert entry["value"] is not None
    return entry["value"]


def test_the_order_of_images_does_not_matter(pair: dict[str, StagedNetwork]) -> None:
    data = image_set()
    turned = data.subset(list(reversed(range(len(data)))))
    one, other = (figures_of(pair, some, batch_size=4) for some in (data, turned))
    for key in ("accuracy", "agreement", "map_cosine", "energy_in_object", "calibration_error", "gini"):
        assert one[key] == pytest.approx(other[key], abs=1e-6)


def test_without_masks_boxes_are_taken_and_without_both_nothing_is_measured(pair: dict[str, StagedNetwork]) -> None:
    sets = {
        "masks": image_set(),
        "boxes": image_set(masks=False),
        "neither": image_set(masks=False, boxes=False),
    }
    record = evaluate(pair, reference="teacher", sets=sets, settings=ONE_PASS).record
    assert [record["sets"][name]["localisation"] for name in sets] == ["masks", "boxes", None]
    assert [record["sets"][name]["object_share"] for name in sets] == [0.25, 0.25, None]  # 8 x 8 of 16 x 16
    for figure in (name for name, measure in METRIC_INFO.items() if measure.group == "localisation"):
        found = [record["sets"][name]["networks"]["student"]["figures"][figure] for name in sets]
        assert found[0] == found[1]  # the objects are squares: their boxes are their masks
        assert found[0] is not None
        assert found[2] is None


def test_an_empty_map_is_counted_and_has_no_score(pair: dict[str, StagedNetwork]) -> None:
    with torch.no_grad():
        classifier = pair["student"].network.get_submodule("fc")
        assert isinstance(classifier, torch.nn.Linear)
        classifier.weight.copy_(-classifier.weight.abs())
    figures = figures_of(pair, image_set())
    assert figures["zero_maps"] == known(1.0)
    for name in ("map_cosine", "map_cosine_floor", "energy_in_object", "pointing_game", "complexity"):
        assert figures[name] == known(None, 0, 10)


def test_a_network_of_nans_is_never_right(pair: dict[str, StagedNetwork]) -> None:
    with torch.no_grad():
        next(pair["student"].network.parameters()).fill_(float("nan"))
    record = record_of(pair, image_set(), settings=EvaluationSettings(perturbed=4, held_out=(), sanity=0, resamples=20))
    scores = record["sets"]["plain"]["networks"]["student"]
    assert value(scores["figures"]["accuracy"]) == 0.0
    assert scores["figures"]["nan_maps"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 10, "excluded": 0}
    for name in ("agreement", "output_kl", "map_cosine", "average_drop", "calibration_error", "adcc"):
        assert scores["figures"][name] == known(None, 0, 10)
    assert scores["figures"]["deletion_auc"] == known(None, 0, 4)
    assert scores["curves"] is None
    assert load_as_json(record) == record


def load_as_json(record: EvaluationRecord) -> Any:
    return json.loads(json.dumps(record, allow_nan=False))


def test_looking_changes_nothing(pair: dict[str, StagedNetwork]) -> None:
    pair["student"].train()
    frozen = pair["student"].network.get_submodule("bn1")
    frozen.eval()
    pair["teacher"].eval()
    before = {name: {key: value.clone() for key, value in net.state_dict().items()} for name, net in pair.items()}
    modes = {name: [module.training for module in net.modules()] for name, net in pair.items()}
    state = torch.get_rng_state()
    settings = EvaluationSettings(perturbed=4, held_out=("hires_cam",), sanity=4, resamples=20)
    record_of(pair, image_set(), maps=MapSettings(layer="group2"), settings=settings)
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: [module.training for module in net.modules()] for name, net in pair.items()} == modes
    assert pair["student"].training
    assert not frozen.training
    for name, net in pair.items():
        assert all(torch.equal(value, before[name][key]) for key, value in net.state_dict().items())
        assert all(parameter.grad is None for parameter in net.parameters())


def test_modes_come_back_after_a_failure(pair: dict[str, StagedNetwork]) -> None:
    pair["student"].train()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_of(pair, image_set(), progress=stop)
    assert all(module.training for module in pair["student"].modules())


def test_one_forward_pass_a_network_and_batch_and_one_more_if_images_are_masked(
    pair: dict[str, StagedNetwork],
) -> None:
    calls = dict.fromkeys(pair, 0)
    for name, net in pair.items():

        def count(*_: object, name: str = name) -> None:
            calls[name] += 1

        net.normalise.register_forward_hook(count)
    steps: list[tuple[str, int, int]] = []
    record_of(pair, image_set(), batch_size=4, progress=lambda *step: steps.append(step))
    assert calls == {"teacher": 3, "student": 3}
    assert steps == [("plain", 0, 10), ("plain", 4, 10), ("plain", 8, 10), ("plain", 10, 10)]
    record_of(
        pair, image_set(), batch_size=4, settings=EvaluationSettings(perturbed=0, held_out=(), sanity=0, resamples=0)
    )
    assert calls == {"teacher": 9, "student": 9}


def test_the_record_is_plain_and_states_how_it_was_made(pair: dict[str, StagedNetwork], tmp_path: Path) -> None:
    maps = MapSettings(layers={"student": "group2"}, target="teacher")
    settings = EvaluationSettings(perturbed=4, steps=5, held_out=(), sanity=2, resamples=20, seed=3)
    record = record_of(pair, image_set(), maps=maps, settings=settings, split="validation")
    assert load_as_json(record) == record
    assert load_record(save_record(record, tmp_path / "evaluation.json")) == record
    assert record["format"] == 2
    assert record["split"] == "validation"
    assert record["classes"] == list(CLASSES)
    assert record["maps"]["method"] == "grad_cam_pp"
    assert "the class that the reference chooses" in record["maps"]["class_policy"]
    assert "in 5 steps" in record["maps"]["perturbation"]
    assert "on 4 images drawn by seed 3" in record["maps"]["perturbation"]
    assert record["networks"]["student"] == {
        "architecture": "wrn_10_1",
        "parameters": 77395,
        "layer": "group2",
        "run": None,
        "seed": None,
        "weights": None,
    }
    assert record["networks"]["teacher"]["layer"] == "final"


def test_the_teachers_choice_is_explained_in_both(pair: dict[str, StagedNetwork]) -> None:
    data = image_set()
    with torch.no_grad():
        choice = pair["teacher"].eval()(data.images.float() / 255).argmax(1)
    assert not torch.equal(choice, data.labels)
    relabelled = ImageSet(data.images, choice, data.classes, data.boxes, data.masks)
    settings = EvaluationSettings(perturbed=4, held_out=("hires_cam",), sanity=4, resamples=0)
    by_teacher = record_of(pair, data, maps=MapSettings(target="teacher"), settings=settings)
    by_label, other = record_of(pair, relabelled, settings=settings), record_of(pair, data, settings=settings)
    found = [r["sets"]["plain"]["networks"]["student"] for r in (by_teacher, by_label, other)]
    for figure in ("map_cosine", "average_drop", "deletion_auc"):
        assert found[0]["figures"][figure] == found[1]["figures"][figure] != found[2]["figures"][figure]
    assert found[0]["held_out"] == found[1]["held_out"] != found[2]["held_out"]
    assert found[0]["sanity"] == found[1]["sanity"] != found[2]["sanity"]


def test_without_a_reference_nothing_is_compared_with_it(pair: dict[str, StagedNetwork]) -> None:
    record = record_of(
        pair, image_set(), reference=None, settings=EvaluationSettings(masked=False, perturbed=0, held_out=(), sanity=0)
    )
    for scores in record["sets"]["plain"]["networks"].values():
        assert scores["figures"]["agreement"] is None
        assert scores["figures"]["map_cosine"] is None
        assert scores["strata"] is None
        assert scores["histogram"] is None
    compared = {entry["figure"] for entry in record["sets"]["plain"]["comparisons"]}
    assert compared == {"accuracy", "energy_in_object"}


def test_fashion_scenes_are_measured(pair: dict[str, StagedNetwork]) -> None:
    scenes = {name: FashionScenes("test", count=6, background=name) for name in ("unbiased", "conflicting")}
    classes = scenes["unbiased"].classes
    nets = {name: network(i, classes=classes, num_classes=10) for i, name in enumerate(("teacher", "student"))}
    record = evaluate(nets, reference="teacher", sets=scenes, settings=ONE_PASS).record
    assert {name: entry["n"] for name, entry in record["sets"].items()} == {"unbiased": 6, "conflicting": 6}
    assert {entry["localisation"] for entry in record["sets"].values()} == {"masks"}


def test_several_instances_are_hit_one_by_one() -> None:
    scenes = FashionScenes("test", count=8, objects=3, size=48)
    nets = {"net": network(1, classes=scenes.classes, num_classes=10)}
    maps = MapSettings("hires_cam", "group1")
    hit = figures_of(nets, scenes, of="net", reference=None, maps=maps)["instances_hit"]
    assert hit["value"] is not None
    assert hit["n"] == 8
    assert (hit["value"] * 24) == pytest.approx(round(hit["value"] * 24), abs=1e-4)  # of three instances each
    assert 0 < hit["value"] < 1
