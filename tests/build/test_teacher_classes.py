"""Teachers with other classes than the data: selected classes in training, caches and commands; own classes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import distill
from distill.ablation.trial import measure
from distill.build import build, run_identity
from distill.build.teacher_classes import find_columns
from distill.data.fashion_items import CLASSES
from distill.errors import InputError
from distill.evaluation import ONE_PASS, MapSettings
from distill.models import create_model, load_model, save_model
from distill.training import RunDirectory
from distill.training.module import make_maps
from distill.types import Batch
from distill.workflows.train import train_config
from tests.training.helpers import KD, save_teacher, small

#: Class of the teacher for each of the ten classes of the data, and the key of the configuration.
COLUMNS = [20, 3, 17, 0, 24, 9, 11, 1, 8, 13]
MAPPING = f"teacher.classes={COLUMNS}"
NAMES = [f"class {i}" for i in range(25)]
OWN = (
    "teacher.classes=own",
    "objective={cross_entropy: {weight: 1}, explanation: {weight: 5, layer: group2, target: label}}",
)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A finished run of a teacher that was trained on other images."""
    config = small(tmp_path, "name=teacher", "data.seed=5", "data.count.test=20")
    RunDirectory(config.directory).open(config, "0" * 16)
    RunDirectory(config.directory).metrics.write_text("epoch,validation/accuracy\n0,0.5\n")
    return save_teacher(config.directory, num_classes=25, classes=NAMES)


@pytest.fixture
def by_hand(tmp_path: Path, teacher: Path) -> Path:
    """A teacher of ten classes whose last layer has the selected rows: the oracle."""
    network = load_model(teacher)
    fc: Any = network.network.fc
    made = create_model("wrn_16_1", num_classes=10, classes=CLASSES)
    state = {key: value for key, value in network.network.state_dict().items() if not key.startswith("fc.")}
    made.network.load_state_dict({**state, "fc.weight": fc.weight[COLUMNS], "fc.bias": fc.bias[COLUMNS]})
    return save_model(made, tmp_path / "by_hand").parent


def metrics(folder: Path, *pairs: str) -> dict[str, float]:
    return train_config(small(folder, *pairs)).metrics


@pytest.mark.parametrize("target", ["label", "teacher"])
@pytest.mark.parametrize("layer", ["final", "group2"])
def test_a_step_equals_that_with_a_teacher_cut_by_hand(
    tmp_path: Path, teacher: Path, by_hand: Path, target: str, layer: str
) -> None:
    pairs = [*KD, f"objective.explanation={{weight: 5, layer: {layer}, target: {target}}}"]
    found = []
    for path, more in ((teacher, [MAPPING]), (by_hand, [])):
        module = build(small(tmp_path, *pairs, f"teacher.checkpoint={path}", *more)).module
        images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        batch = Batch(images, torch.arange(8), torch.arange(8), torch.zeros(8, dtype=torch.int64))
        assert module.teacher is not None
        student, output = module.student.run(images, [layer]), module.teacher(images, [layer])
        maps = make_maps(module.explainers, student, output, batch)["explanation"][layer].teacher
        found.append((output.logits, maps, module.training_step(batch)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_cached_runs_have_the_same_losses_and_a_cache_of_their_own(
    tmp_path: Path, teacher: Path, by_hand: Path
) -> None:
    base = [*KD, "data.augment.views=2", f"teacher.cache_dir={tmp_path / 'cache'}"]
    selected = [*base, f"teacher.checkpoint={teacher}", MAPPING]
    expected = metrics(tmp_path / "by hand", *base, f"teacher.checkpoint={by_hand}")
    assert metrics(tmp_path / "live", *selected) == pytest.approx(expected, rel=1e-4)
    cached = metrics(tmp_path / "cached", *selected, "teacher.cache=disk")
    assert cached.pop("train/teacher_cache_hits") > 0
    assert cached == pytest.approx(expected, rel=1e-4)
    files = len(list((tmp_path / "cache").iterdir()))
    again = build(small(tmp_path / "again", *selected, "teacher.cache=disk"))
    assert again.cache is not None
    assert again.cache.cached > 0
    assert len(list((tmp_path / "cache").iterdir())) == files
    other = [*selected[:-1], f"teacher.classes={COLUMNS[::-1]}", "teacher.cache=disk"]
    fresh = build(small(tmp_path / "other", *other))
    assert fresh.cache is not None
    assert fresh.cache.cached == 0


def test_mixed_images_are_explained_by_the_shares_of_the_selected_classes(
    tmp_path: Path, teacher: Path, by_hand: Path
) -> None:
    base = [*KD, "data.mixup={alpha: 1.0, probability: 1}", "trainer.max_epochs=1"]
    expected = metrics(tmp_path / "by hand", *base, f"teacher.checkpoint={by_hand}")
    selected = metrics(tmp_path / "selected", *base, f"teacher.checkpoint={teacher}", MAPPING)
    assert selected == pytest.approx(expected, rel=1e-4)
    own = metrics(tmp_path / "own", *base, *OWN, "objective.soft_targets=null", f"teacher.checkpoint={teacher}")
    assert own["train/explanation"] > 0


def test_names_and_indices_name_the_same_classes(tmp_path: Path, teacher: Path) -> None:
    network = load_model(teacher)
    names = {name: NAMES[column] for name, column in zip(CLASSES, COLUMNS, strict=True)}
    numbers = dict(zip(reversed(CLASSES), reversed(COLUMNS), strict=True))
    for mapping in (COLUMNS, names, numbers, [str(column) for column in COLUMNS]):
        assert find_columns(mapping, network, CLASSES) == COLUMNS
    config = small(tmp_path, *KD, f"teacher.checkpoint={teacher}")
    assert run_identity(config) != run_identity(small(tmp_path, *KD, f"teacher.checkpoint={teacher}", MAPPING))


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ([1, 2], r"expected one entry for each of the 3 classes of the data, cat, dog, owl; got 2"),
        ({"cat": 1, "dgo": 2}, r"unknown class of the data 'dgo'; did you mean 'dog'\?"),
        ({"cat": 1}, r"2 classes of the data have no class of the teacher: dog, owl"),
        ([1, 2, 25], r"unknown class 25; .*a number from 0 to 24"),
        ([1, 2, -1], r"unknown class -1"),
        ([1, 2, "clas 7"], r"unknown class 'clas 7'; did you mean 'class 7'"),
        ([1, 2, 1], r"class 1 of the teacher \('class 1'\) stands for 'cat' and for 'owl'"),
    ],
)
def test_mistakes_in_the_mapping(mapping: Any, message: str) -> None:
    network = create_model("wrn_10_1", num_classes=25, classes=NAMES)
    with pytest.raises(InputError, match=rf"^teacher.classes.*{message}"):
        find_columns(mapping, network, ["cat", "dog", "owl"])


def test_names_need_a_teacher_with_names() -> None:
    with pytest.raises(InputError, match=r"'tabby' is a name, but the classes of the teacher have no names"):
        find_columns(["tabby"], create_model("wrn_10_1", num_classes=5), ["cat"])


def test_a_plain_state_dict_has_its_own_number_of_classes(tmp_path: Path, teacher: Path, by_hand: Path) -> None:
    file = tmp_path / "net.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in load_model(teacher).network.state_dict().items()}}, file)
    about = ("teacher.name=wrn_16_1", "teacher.normalisation={mean: [0, 0, 0], std: [1, 1, 1]}", *KD)
    with pytest.raises(InputError, match=r"the teacher has 25 classes, but fashion_scenes has 10\. Name the teacher's"):
        build(small(tmp_path, f"teacher.weights={file}", *about))
    built = build(small(tmp_path, f"teacher.weights={file}", *about, MAPPING)).module
    assert built.teacher is not None
    images = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(built.teacher(images, ()).logits, load_model(by_hand)(images))


class Plain(nn.Module):
    """A network that is passed as an object and has no names of classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(8, 25)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.body(images))


def fixed() -> Plain:
    """A builder whose network always has 25 classes."""
    return Plain()


QUIET: dict[str, Any] = {
    "data": {"size": 16, "count": {"train": 40, "validation": 20, "test": 20}, "batch_size": 20},
    "trainer": {"enable_progress_bar": False, "accelerator": "cpu"},
    "loggers": {"tensorboard": False},
    "epochs": 1,
    "student": "wrn_10_1",
    "explanation": 5,
}


def test_a_teacher_that_is_an_object(tmp_path: Path) -> None:
    network, scaling = Plain(), {"mean": [0.0] * 3, "std": [1.0] * 3}
    given = {"network": network, "normalisation": scaling}
    with pytest.raises(
        InputError, match=r"teacher must return logits .* = \(2, 10\), got \(2, 25\). Name the teacher's"
    ):
        distill.train(teacher=given, output_dir=str(tmp_path), **QUIET)
    run = distill.train(teacher={**given, "classes": COLUMNS}, output_dir=str(tmp_path), **QUIET)
    images = torch.rand(3, 3, 16, 16)
    assert run.teacher is not None
    torch.testing.assert_close(run.teacher(images), network.eval()(images)[:, COLUMNS])
    own = distill.train(teacher={**given, "classes": "own"}, output_dir=str(tmp_path), name="own", **QUIET)
    assert own.teacher is not None
    torch.testing.assert_close(own.teacher(images), network(images))


def test_a_callable_with_a_fixed_number_of_classes(tmp_path: Path) -> None:
    torch.save(Plain().state_dict(), tmp_path / "net.pth")
    about = {"name": f"{__name__}:fixed", "normalisation": {"mean": [0.0] * 3, "std": [1.0] * 3}, "classes": COLUMNS}
    run = distill.train(teacher={"weights": str(tmp_path / "net.pth"), **about}, output_dir=str(tmp_path), **QUIET)
    network = Plain()
    network.load_state_dict(torch.load(tmp_path / "net.pth"))
    images = torch.rand(3, 3, 16, 16)
    assert run.teacher is not None
    torch.testing.assert_close(run.teacher(images), network(images)[:, COLUMNS])


def test_commands_use_the_selected_classes(tmp_path: Path, teacher: Path, by_hand: Path) -> None:
    run = train_config(small(tmp_path, *KD, f"teacher.checkpoint={teacher}", MAPPING, "data.count.test=10"))
    few = {"perturbed": 0, "explained": 0, "sanity": 2, "compared": False}
    scores = []
    for reference in (run.teacher, teacher, teacher / "student.safetensors", load_model(by_hand)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done = distill.evaluate({"kd": run.directory}, reference=reference, settings=few, gallery=0)
        assert done.record["classes"] == list(CLASSES)
        figures = done.record["sets"]["test"]["networks"]["kd"]["figures"]
        scores.append({name: one["value"] for name, one in figures.items() if one})
    for one in scores[:3]:
        assert one == pytest.approx(scores[3], rel=1e-4, abs=1e-6)
    assert {"agreement", "output_kl"} <= scores[0].keys()
    image = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
    shown = [distill.explain_images(run.directory, image, reference=one)[0] for one in (None, teacher, by_hand)]
    for explained in shown:
        assert explained.teacher is not None
        torch.testing.assert_close(torch.tensor(explained.maps["teacher"]), torch.tensor(shown[2].maps["teacher"]))
        assert explained.teacher.probabilities.shape == (10,)
    measured = [
        measure(one, {"test": {}}, maps=MapSettings(), settings=ONE_PASS)
        for one in (run.config, small(tmp_path, *KD, f"teacher.checkpoint={by_hand}", "data.count.test=10"))
    ]
    measured = [{name: value for name, value in one.items() if value is not None} for one in measured]
    assert measured[0] == pytest.approx(measured[1], rel=1e-4, abs=1e-6, nan_ok=True)
    assert measured[0]["test/agreement"] == pytest.approx(scores[3]["agreement"])
    assert json.loads((run.directory / "student.json").read_text())["num_classes"] == 10


def test_a_teacher_with_its_own_classes_explains_its_top_class(tmp_path: Path, teacher: Path) -> None:
    built = build(small(tmp_path, *OWN, f"teacher.checkpoint={teacher}"))
    module = built.module
    assert "validation/agreement" not in module.metric_names
    assert module.teacher is not None
    images = torch.rand(8, 3, 16, 16)
    batch = Batch(images, torch.arange(8), torch.arange(8), torch.zeros(8, dtype=torch.int64))
    student, output = module.student.run(images, ["group2"]), module.teacher(images, ["group2"])
    assert output.logits.shape == (8, 25)
    pair = module.explainers["explanation"]["group2"]
    maps = make_maps(module.explainers, student, output, batch)["explanation"]["group2"]
    torch.testing.assert_close(maps.teacher, pair.teacher.from_output(output, output.logits.argmax(1)))
    torch.testing.assert_close(maps.student.detach(), pair.student.from_output(student, batch.labels))


@pytest.mark.parametrize("frozen", [False, True])
def test_own_classes_train_live_cached_and_frozen(tmp_path: Path, teacher: Path, frozen: bool) -> None:
    base = [*OWN, f"teacher.checkpoint={teacher}", f"objective.explanation.frozen={frozen}", "data.augment.views=2"]
    live = metrics(tmp_path / "live", *base)
    cached = metrics(tmp_path / "cached", *base, "teacher.cache=memory")
    cached.pop("train/teacher_cache_hits", None)
    assert cached == pytest.approx(live, rel=1e-4)
    assert live["train/explanation"] > 0


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("objective.soft_targets.weight=1", r"objective.soft_targets compares the logits .*teacher.classes=own"),
        ("objective.explanation.target=teacher", r"objective.explanation.target: with teacher.classes=own"),
    ],
)
def test_what_needs_the_same_classes_is_refused_with_own_classes(
    tmp_path: Path, teacher: Path, pair: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build(small(tmp_path, *OWN, f"teacher.checkpoint={teacher}", pair))


def test_commands_with_own_classes(tmp_path: Path, teacher: Path) -> None:
    run = train_config(small(tmp_path, *OWN, f"teacher.checkpoint={teacher}", "data.count.test=20"))
    with pytest.raises(InputError, match=r"teacher.classes=own: evaluate them without a reference"):
        distill.evaluate(run, reference=teacher)
    image = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
    said: list[str] = []
    assert distill.explain_images(run, image, notify=said.append)[0].teacher is None
    assert "teacher.classes=own" in said[0]
    figures = measure(run.config, {"test": {}}, maps=MapSettings(), settings=ONE_PASS)
    assert figures.get("test/agreement") is None
    assert figures["test/accuracy"] is not None
    with pytest.raises(InputError, match=r"`reference`: the run was trained with teacher.classes=own"):
        distill.explain_images(run, image, reference=teacher)
