"""`distill.train`: files, mappings, keywords and objects."""

from __future__ import annotations

import copy
import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

import distill
from distill.data import as_image_set
from distill.errors import InputError
from distill.models import StagedNetwork
from distill.workflows.run import Run
from tests.losses.own_term_helpers import example
from tests.losses.own_terms import Confidence
from tests.workflows.own import QUIET, SCALING, Counter, Kept, Net, Stripes

SCENES = {"name": "fashion_scenes", "size": 16, "count": 64, "batch_size": 16}


def weights(run: Run) -> str:
    return hashlib.sha256((run.directory / "student.safetensors").read_bytes()).hexdigest()


def trained(folder: Path, **more: Any) -> Run:
    torch.manual_seed(0)
    given: dict[str, Any] = {
        "student": Net(),
        "data": (Stripes(32), Stripes(16, seed=1)),
        "epochs": 2,
        "output_dir": str(folder),
    }
    return distill.train({"data": {"batch_size": 16}}, **{**QUIET, **given, **more})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("own"), name="own")


@pytest.fixture(scope="module")
def scenes_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = str(tmp_path_factory.mktemp("scenes"))
    return distill.train(student="wrn_10_1", data=SCENES, epochs=1, output_dir=folder, name="plain", **QUIET)


def test_a_file_a_mapping_keywords_and_overrides_give_the_same_run(tmp_path: Path, scenes_run: Run) -> None:
    content: dict[str, Any] = {
        **{key: dict(value) for key, value in QUIET.items()},
        "data": SCENES,
        "student": {"name": "wrn_10_1"},
        "output_dir": str(tmp_path),
    }
    content["trainer"]["max_epochs"] = 1
    file = tmp_path / "run.yaml"
    OmegaConf.save(OmegaConf.create(content), file)
    runs = [
        distill.train(file, name="file"),
        distill.train(content, name="mapping"),
        distill.train(content, epochs=3, overrides=["trainer.max_epochs=1", "name=pairs"]),
        distill.train(content, epochs=3, overrides={"trainer.max_epochs": 1, "name": "dotted"}),
    ]
    assert {weights(run) for run in runs} == {weights(scenes_run)}
    assert {run.directory.name for run in runs} == {"file", "mapping", "pairs", "dotted"}


def test_a_run_has_student_metrics_and_no_teacher(scenes_run: Run) -> None:
    assert scenes_run.action == "new"
    assert scenes_run.student(torch.rand(2, 3, 16, 16)).shape == (2, 10)
    assert not scenes_run.student.training
    assert scenes_run.teacher is None
    assert 0 <= scenes_run.metrics["validation/accuracy"] <= 1


def test_a_finished_run_is_the_teacher_of_another(tmp_path: Path, scenes_run: Run) -> None:
    run = distill.train(
        student="wrn_10_1",
        teacher=scenes_run,
        data=SCENES,
        explanation=5,
        objective={"soft_targets": {"weight": 0.9, "temperature": 2}, "cross_entropy": 0.1},
        epochs=1,
        output_dir=str(tmp_path),
        **QUIET,
    )
    terms = run.config.objective
    assert {name: term.weight for name, term in terms.items()} == {
        "cross_entropy": 0.1,
        "soft_targets": 0.9,
        "explanation": 5,
    }
    assert run.teacher is not None
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(run.teacher(images), scenes_run.student(images))
    assert "train/explanation" in run.metrics


def test_a_network_and_data_sets_as_objects(run: Run) -> None:
    assert run.config.student.name.startswith("object:tests.workflows.own.Net#")
    assert run.config.data.name.startswith("object:tests.workflows.own.Stripes#")
    assert isinstance(run.student, StagedNetwork)
    assert run.student.classes == ("left", "right")
    assert run.student(torch.rand(1, 3, 8, 8)).shape == (1, 2)


def test_the_passed_network_does_not_change(tmp_path: Path) -> None:
    net = Net()
    before = copy.deepcopy(net.state_dict())
    run = trained(tmp_path, student=net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert any(not torch.equal(value, before[name]) for name, value in run.student.network.state_dict().items())


def test_the_same_call_finds_the_run_done_and_other_content_is_another_run(run: Run) -> None:
    folder = run.directory.parent
    again = trained(folder, name="own")
    assert again.action == "done"
    assert weights(again) == weights(run)
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(again.student(images), run.student(images))
    with pytest.raises(InputError, match="another configuration"):
        trained(folder, name="own", student=Net(width=5))
    with pytest.raises(InputError, match="another configuration"):
        trained(folder, name="own", data=(Stripes(32, seed=2), Stripes(16, seed=1)))


def test_one_data_set_gives_a_tenth_to_validation(tmp_path: Path) -> None:
    run = trained(tmp_path, data=Stripes(40))
    assert run.metrics["validation/accuracy"] in (0.0, 0.25, 0.5, 0.75, 1.0)  # of 4 images
    with pytest.raises(InputError, match=r"3 images are too few for a validation split. Pass \(training, validation\)"):
        trained(tmp_path, name="few", data=Stripes(3))


def test_a_class_that_can_be_imported_is_recorded_by_its_path(tmp_path: Path) -> None:
    run = trained(tmp_path, student=Net)
    assert run.config.student.name == "tests.workflows.own:Net"
    assert run.student.classes == ("left", "right")
    with pytest.raises(InputError, match=r"asks to import 'tests.workflows\.own:Net'"):
        distill.load_model(run.directory)
    assert distill.load_model(run.directory, network="tests.workflows.own:Net").classes == ("left", "right")


def test_a_teacher_as_an_object_and_the_explanation_term(tmp_path: Path) -> None:
    teacher = {"network": Net(width=6).eval(), "normalisation": SCALING}
    term = {"weight": 2, "method": "grad_cam"}
    run = trained(tmp_path, teacher=teacher, objective={"soft_targets": 1.0}, explanation=term)
    assert run.config.teacher is not None
    assert run.config.teacher.source.startswith("object:tests.workflows.own.Net#")
    assert run.teacher is not None
    assert run.teacher.normalise.mean.flatten().tolist() == SCALING["mean"]
    assert run.metrics["train/explanation"] > 0


def test_the_teachers_cache_takes_an_object(tmp_path: Path) -> None:
    cache = {"cache": "disk", "cache_dir": str(tmp_path / "cache")}
    teacher = {"network": Net(width=6).eval(), "normalisation": SCALING, **cache}
    first, second = (
        trained(tmp_path, name=name, teacher=teacher, objective={"soft_targets": 1.0}) for name in ("first", "second")
    )
    assert first.metrics["train/teacher_cache_hits"] < 1
    assert second.metrics["train/teacher_cache_hits"] == 1
    assert weights(first) == weights(second)


def test_callbacks_and_loggers(tmp_path: Path) -> None:
    counter, kept = Counter(), Kept()
    run = trained(tmp_path, callbacks=[counter], loggers=[kept], overrides={"loggers.tensorboard": False})
    assert counter.steps == 4
    assert {"train/loss", "validation/accuracy"} <= kept.names
    assert (run.directory / "metrics.csv").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"studnet": "wrn_10_1"}, "studnet: unknown key; did you mean 'student'?"),
        ({"student": 3}, "student: expected a name, a mapping or a network, got int"),
        ({"student": lambda **_: Net()}, "cannot be imported from a module. Pass the network that it returns"),
        ({"teacher": Net()}, "teacher: a network that is passed as an object needs a normalisation: "),
        ({"explanation": 1.0}, "objective.explanation needs a teacher"),
        ({"objective": {"soft_targets": "much"}}, "objective.soft_targets: expected a weight, a mapping"),
        ({"data": []}, "data: the data set is empty"),
        ({"data": iter([])}, "data: expected a data set with a length that can be indexed"),
        ({"epochs": 0}, "max_epochs should be a whole number of at least 1"),
        (
            {"student": nn.Linear(3, 2)},
            "student, teacher and objective do not fit together on images of shape (3, 8, 8): ",
        ),
        ({"student": Net(num_classes=5)}, "the student must return logits (samples, classes) = (2, 2), got (2, 5)"),
    ],
)
def test_wrong_arguments_are_reported_and_no_file_is_written(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as error:
        trained(tmp_path / "runs", **given)
    assert message in str(error.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (torch.zeros(3, 8, 8), "expected (image, label), got Tensor"),
        ((torch.zeros(3, 8, 8),), "expected (image, label), got 1 values"),
        ((torch.zeros(3, 8, 8), 0.5), "expected a whole number as label, got 0.5"),
        ((torch.zeros(3, 8, 8), "cat"), "expected a whole number as label, got 'cat'"),
        ((torch.zeros(3, 8, 9), 0), "expected an image of shape (3, 8, 8) (C, H, W) as the first one, got (3, 8, 9)"),
        ((torch.zeros(8, 8), 0), "got Tensor of shape (8, 8)"),
        ((torch.full((3, 8, 8), 2.0), 0), "expected float values in [0, 1], got 2 to 2; leave out the normalisation"),
        ((torch.full((3, 8, 8), torch.nan), 0), "expected float values in [0, 1], got nan to nan"),
        ((torch.zeros(3, 8, 8, dtype=torch.int64), 0), "expected uint8, or float in [0, 1], got int64"),
        (("cat.png", 0), "expected a PIL image, a tensor (C, H, W) or an array (H, W, C), got str"),
    ],
)
def test_items_that_are_not_image_and_label_are_reported(item: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        as_image_set([(torch.zeros(3, 8, 8), 0), item], name="mine")
    assert str(error.value).startswith("mine[1]: ")
    assert message in str(error.value)


def test_labels_must_have_a_class() -> None:
    with pytest.raises(InputError, match=r"expected labels from 0 to 1 for 2 classes, got 0 to 2"):
        as_image_set([(torch.zeros(1, 2, 2), 0), (torch.zeros(1, 2, 2), 2)], classes=["a", "b"])


def test_all_image_types_give_the_same_pixels() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    chw = torch.from_numpy(pixels).permute(2, 0, 1)
    kinds = [pixels, Image.fromarray(pixels), chw, chw.float() / 255, pixels.astype(np.float64) / 255]
    found = as_image_set([(image, 0) for image in kinds])
    assert found.classes == ("0",)
    assert all(torch.equal(image, chw) for image in found.images)
    grey = as_image_set([(pixels[..., 0], 0), (Image.fromarray(pixels[..., 0]), 1)])
    assert torch.equal(grey.images, chw[None, :1].expand(2, -1, -1, -1))


def test_a_module_as_a_term_trains_and_evaluates(tmp_path: Path, scenes_run: Run) -> None:
    given: dict[str, Any] = {
        "student": "wrn_10_1",
        "data": SCENES,
        "epochs": 1,
        "output_dir": str(tmp_path),
        "teacher": scenes_run,
        **QUIET,
    }
    channels = {"term": example(temperature=2.0), "layer": "group2", "weight": 3}
    run = distill.train(objective={"channels": channels}, name="term", **given)
    assert run.metrics["train/channels_weighted"] == pytest.approx(3 * run.metrics["train/channels"], rel=1e-5)
    assert run.config.objective["channels"].term.startswith("object:")
    assert weights(run) != weights(scenes_run)
    assert distill.train(objective={"channels": channels}, name="term", **given).action == "done"
    with pytest.raises(InputError, match="another configuration"):
        distill.train(objective={"channels": {**channels, "term": example(temperature=4.0)}}, name="term", **given)
    assert distill.load_model(run.directory)(torch.rand(2, 3, 16, 16)).shape == (2, 10)


def test_a_module_alone_is_a_term_of_weight_one(tmp_path: Path) -> None:
    run = trained(tmp_path, objective={"confidence": Confidence()}, epochs=1)
    assert run.metrics["train/confidence_weighted"] == pytest.approx(run.metrics["train/confidence"], rel=1e-6)
    with pytest.raises(InputError, match=r"objective\.confidence.*unknown key 'wieght'"):
        trained(tmp_path, objective={"confidence": {"term": Confidence(), "wieght": 2}}, name="other")


def test_a_run_is_shown_as_one_line(run: Run) -> None:
    assert repr(run) == f"Run('own', directory={str(run.directory)!r}, action='new')"


def test_training_does_not_warn_of_internals_of_torch(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trained(tmp_path, epochs=1)
    assert not [one for one in caught if "LeafSpec" in str(one.message)]
