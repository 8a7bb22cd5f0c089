"""Networks -> record: figures against a slow loop, what is not measured, refusals, and nothing changed by looking."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy

from distill.data import FashionScenes, ImageSet
from distill.errors import InputError
from distill.evaluation import MapSettings, evaluate
from distill.explain import Explainer
from distill.models import StagedNetwork
from distill.report import load_record, save_record
from tests.evaluation.checks import CLASSES, image_set, network
from tests.metrics import oracle
from tests.oracles.maps import resize


@pytest.fixture
def pair() -> dict[str, StagedNetwork]:
    return {"teacher": network(1), "student": network(2)}


def mean(scores: list[float | None]) -> dict[str, float | int]:
    kept = [score for score in scores if score is not None]
    return {"value": math.fsum(kept) / len(kept), "n": len(kept), "excluded": len(scores) - len(kept)}


@pytest.mark.parametrize("batch_size", [3, 64])
@pytest.mark.parametrize(("method", "layer"), [("grad_cam_pp", "final"), ("grad_cam", "group2")])
def test_figures_match_a_slow_loop(pair: dict[str, StagedNetwork], batch_size: int, method: str, layer: str) -> None:
    data = image_set()
    record = evaluate(
        pair,
        reference="teacher",
        sets={"plain": data},
        maps=MapSettings(method=method, layer=layer),
        batch_size=batch_size,
    )
    got = record["sets"]["plain"]["networks"]["student"]
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
        assert got[key] == pytest.approx(mean(scores), abs=1e-5)  # type: ignore[literal-required]  # a key of the loop
    zero = sum(not heat.any() for heat in maps["student"]) / len(data)
    assert got["zero_maps"] == {"value": zero, "n": 10, "excluded": 0}


def test_an_image_without_an_object_is_left_out_and_counted(pair: dict[str, StagedNetwork]) -> None:
    record = evaluate(pair, reference="teacher", sets={"plain": image_set()})
    energy = record["sets"]["plain"]["networks"]["teacher"]["energy_in_object"]
    assert energy is not None
    assert energy["n"] + energy["excluded"] == 10
    assert energy["excluded"] >= 1


def test_a_network_agrees_with_itself() -> None:
    net = network(1)
    record = evaluate({"a": net, "b": net}, reference="a", sets={"plain": image_set()})
    scores = record["sets"]["plain"]["networks"]
    assert scores["b"]["agreement"] == {"value": 1.0, "n": 10, "excluded": 0}
    assert scores["b"]["map_cosine"] is not None
    assert scores["b"]["map_cosine"]["value"] == pytest.approx(1.0, abs=1e-6)
    assert scores["a"]["agreement"] is None
    assert scores["a"]["map_cosine"] is None
    assert scores["a"]["accuracy"] == scores["b"]["accuracy"]
    assert scores["a"]["energy_in_object"] == scores["b"]["energy_in_object"]


def test_the_order_of_images_does_not_matter(pair: dict[str, StagedNetwork]) -> None:
    data = image_set()
    turned = data.subset(list(reversed(range(len(data)))))
    one = evaluate(pair, reference="teacher", sets={"plain": data}, batch_size=4)
    other = evaluate(pair, reference="teacher", sets={"plain": turned}, batch_size=4)
    for key in ("accuracy", "agreement", "map_cosine", "energy_in_object"):
        figures = [r["sets"]["plain"]["networks"]["student"][key] for r in (one, other)]
        assert figures[0] == pytest.approx(figures[1], abs=1e-6)


def test_without_masks_boxes_are_taken_and_without_both_nothing_is_measured(pair: dict[str, StagedNetwork]) -> None:
    sets = {
        "masks": image_set(),
        "boxes": image_set(masks=False),
        "neither": image_set(masks=False, boxes=False),
    }
    record = evaluate(pair, reference="teacher", sets=sets)
    assert [record["sets"][name]["localisation"] for name in sets] == ["masks", "boxes", None]
    assert [record["sets"][name]["object_share"] for name in sets] == [0.25, 0.25, None]  # 8 x 8 of 16 x 16
    energy = [record["sets"][name]["networks"]["student"]["energy_in_object"] for name in sets]
    assert energy[0] == energy[1]  # the objects are squares: their boxes are their masks
    assert energy[2] is None


def test_an_empty_map_is_counted_and_has_no_score(pair: dict[str, StagedNetwork]) -> None:
    with torch.no_grad():
        classifier = pair["student"].network.get_submodule("fc")
        assert isinstance(classifier, torch.nn.Linear)
        classifier.weight.copy_(-classifier.weight.abs())
    scores = evaluate(pair, reference="teacher", sets={"plain": image_set()})["sets"]["plain"]["networks"]["student"]
    assert scores["zero_maps"] == {"value": 1.0, "n": 10, "excluded": 0}
    assert scores["map_cosine"] == {"value": None, "n": 0, "excluded": 10}
    assert scores["energy_in_object"] == {"value": None, "n": 0, "excluded": 10}


def test_a_network_of_nans_is_never_right(pair: dict[str, StagedNetwork]) -> None:
    with torch.no_grad():
        next(pair["student"].network.parameters()).fill_(float("nan"))
    scores = evaluate(pair, reference="teacher", sets={"plain": image_set()})["sets"]["plain"]["networks"]["student"]
    assert scores["accuracy"]["value"] == 0.0
    assert scores["agreement"] == {"value": None, "n": 0, "excluded": 10}


def test_looking_changes_nothing(pair: dict[str, StagedNetwork]) -> None:
    pair["student"].train()
    frozen = pair["student"].network.get_submodule("bn1")
    frozen.eval()
    pair["teacher"].eval()
    before = {name: {key: value.clone() for key, value in net.state_dict().items()} for name, net in pair.items()}
    modes = {name: [module.training for module in net.modules()] for name, net in pair.items()}
    evaluate(pair, reference="teacher", sets={"plain": image_set()}, maps=MapSettings(layer="group2"))
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
        evaluate(pair, reference="teacher", sets={"plain": image_set()}, progress=stop)
    assert all(module.training for module in pair["student"].modules())


def test_one_forward_pass_a_network_and_batch(pair: dict[str, StagedNetwork]) -> None:
    calls = dict.fromkeys(pair, 0)
    for name, net in pair.items():

        def count(*_: object, name: str = name) -> None:
            calls[name] += 1

        net.normalise.register_forward_hook(count)
    steps: list[tuple[str, int, int]] = []
    evaluate(
        pair,
        reference="teacher",
        sets={"plain": image_set()},
        batch_size=4,
        progress=lambda *step: steps.append(step),
    )
    assert calls == {"teacher": 3, "student": 3}
    assert steps == [("plain", 4, 10), ("plain", 8, 10), ("plain", 10, 10)]


def test_the_record_is_plain_and_states_how_it_was_made(pair: dict[str, StagedNetwork], tmp_path: Path) -> None:
    settings = MapSettings(layers={"student": "group2"}, target="teacher")
    record = evaluate(pair, reference="teacher", sets={"plain": image_set()}, maps=settings)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert load_record(save_record(record, tmp_path / "evaluation.json")) == record
    assert record["format"] == 1
    assert record["classes"] == list(CLASSES)
    assert record["maps"]["method"] == "grad_cam_pp"
    assert "the class that the reference chooses" in record["maps"]["class_policy"]
    assert record["networks"]["student"] == {"architecture": "wrn_10_1", "parameters": 77395, "layer": "group2"}
    assert record["networks"]["teacher"]["layer"] == "final"


def test_the_teachers_choice_is_explained_in_both(pair: dict[str, StagedNetwork]) -> None:
    data = image_set()
    with torch.no_grad():
        choice = pair["teacher"].eval()(data.images.float() / 255).argmax(1)
    assert not torch.equal(choice, data.labels)
    relabelled = ImageSet(data.images, choice, data.classes, data.boxes, data.masks)
    by_teacher = evaluate(pair, reference="teacher", sets={"s": data}, maps=MapSettings(target="teacher"))
    by_label = evaluate(pair, reference="teacher", sets={"s": relabelled})
    other = evaluate(pair, reference="teacher", sets={"s": data})
    figures = [r["sets"]["s"]["networks"]["student"]["map_cosine"] for r in (by_teacher, by_label, other)]
    assert figures[0] == figures[1]
    assert figures[0] != figures[2]


def test_without_a_reference_nothing_is_compared(pair: dict[str, StagedNetwork]) -> None:
    scores = evaluate(pair, reference=None, sets={"plain": image_set()})["sets"]["plain"]["networks"]
    assert [scores[name]["agreement"] for name in scores] == [None, None]
    assert [scores[name]["map_cosine"] for name in scores] == [None, None]


def test_fashion_scenes_are_measured(pair: dict[str, StagedNetwork]) -> None:
    scenes = {name: FashionScenes("test", count=6, background=name) for name in ("unbiased", "conflicting")}
    classes = scenes["unbiased"].classes
    nets = {name: network(i, classes=classes, num_classes=10) for i, name in enumerate(("teacher", "student"))}
    record = evaluate(nets, reference="teacher", sets=scenes)
    assert {name: entry["n"] for name, entry in record["sets"].items()} == {"unbiased": 6, "conflicting": 6}
    assert {entry["localisation"] for entry in record["sets"].values()} == {"masks"}


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ({}, "give at least one network"),
        (
            {"teacher": network(1), "b": network(2, classes=("bag", "boot", "cat"))},
            "networks 'teacher' and 'b' have different classes .*: class 2 is 'coat' and 'cat'",
        ),
        (
            {"teacher": network(1), "b": network(2, classes=(), num_classes=4)},
            "networks 'teacher' and 'b' have different classes .*: 3 and 4",
        ),
        ({"student": network(1)}, "unknown reference 'teacher'"),
    ],
)
def test_networks_that_cannot_be_compared_are_refused(networks: dict[str, StagedNetwork], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(networks, reference="teacher", sets={"plain": image_set()})


def test_a_network_without_names_of_classes_goes_with_one_that_has_them() -> None:
    record = evaluate(
        {"foreign": network(1, classes=()), "own": network(2)}, reference="foreign", sets={"plain": image_set()}
    )
    assert record["classes"] == list(CLASSES)


def test_sets_of_other_classes_are_refused(pair: dict[str, StagedNetwork]) -> None:
    with pytest.raises(InputError, match="test set 'pets' has other classes than network 'teacher': class 0 is 'cat'"):
        evaluate(pair, reference="teacher", sets={"pets": image_set(classes=("cat", "dog", "cow"))})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "grad_camp"}, "`method` must be one of .*got 'grad_camp'"),
        ({"target": "student"}, "unknown class policy 'student'.*same class"),
        ({"layer": "group9"}, "network 'teacher': unknown layer 'group9'"),
        ({"method": "cam", "layer": "group1"}, "network 'teacher': .*global average pooling"),
    ],
)
def test_settings_that_do_not_exist_are_named(
    pair: dict[str, StagedNetwork], settings: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(pair, reference="teacher", sets={"plain": image_set()}, maps=MapSettings(**settings))  # type: ignore[arg-type]


def test_empty_input_is_refused(pair: dict[str, StagedNetwork]) -> None:
    with pytest.raises(InputError, match="give at least one test set"):
        evaluate(pair, reference="teacher", sets={})
    with pytest.raises(InputError, match="'none' holds no images"):
        evaluate(pair, reference="teacher", sets={"none": image_set().subset([])})
    with pytest.raises(InputError, match="policy 'teacher' needs a reference"):
        evaluate(pair, reference=None, sets={"plain": image_set()}, maps=MapSettings(target="teacher"))
    with pytest.raises(InputError, match="`batch_size` must be at least 1, got 0"):
        evaluate(pair, reference="teacher", sets={"plain": image_set()}, batch_size=0)
