"""Options of terms: several layers, schedules and frozen maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.build import build
from distill.config import Config, load
from distill.data import FashionScenes, Views
from distill.errors import InputError
from distill.explain import Explainer, PairExplainer
from distill.losses import TermSchedule, explanation_loss
from distill.models import StagedNetwork, create_model, save_model
from distill.teachers import FrozenTeacher
from distill.teachers.frozen_maps import FrozenMaps
from distill.training import DistillationModule
from distill.training.module import zero_map_rate
from distill.types import Batch


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    net = create_model("wrn_10_2", num_classes=10, mean=[0.4] * 3, std=[0.3] * 3)
    save_model(net, tmp_path / "teacher")
    return tmp_path / "teacher"


def config(teacher: Path, *pairs: str) -> Config:
    small = ["data.count=48", "data.batch_size=16", "student.name=wrn_10_1", "trainer.max_epochs=2"]
    named = [f"teacher.checkpoint={teacher}", f"output_dir={teacher.parent}", "loggers.tensorboard=false"]
    return load([], [*small, *named, "trainer.accelerator=cpu", "trainer.precision=32-true", *pairs])


def batch_of(module: DistillationModule, run: Any) -> Batch:
    taken = run.data.split("train").take(torch.arange(16), torch.full((16,), run.data.views.identity))
    return taken._replace(images=run.data.views.apply(taken.images, taken.view))


def losses_of(module: DistillationModule, batch: Batch) -> dict[str, Tensor]:
    module.train_means.pop()
    module.training_step(batch)
    return module.train_means.pop()


def test_layers_have_their_weights(teacher: Path) -> None:
    run = build(config(teacher, "objective.explanation.layers={final: 1.0, group2: 0.5}"))
    batch = batch_of(run.module, run)
    found = losses_of(run.module, batch)["explanation"]
    assert run.module.teacher is not None
    student = run.module.student.run(batch.images, ["final", "group2"])
    teacher_output = run.module.teacher(batch.images, ["final", "group2"])
    each = {
        layer: explanation_loss(
            *(Explainer(layer=layer).from_output(output, batch.labels) for output in (student, teacher_output)),
            normalize="l2",
            distance="squared_error",
        )
        for layer in ("final", "group2")
    }
    torch.testing.assert_close(found, each["final"] + 0.5 * each["group2"], rtol=1e-4, atol=1e-6)
    assert abs(float(each["final"] - each["group2"])) > 1e-3


def test_the_teachers_layer_can_differ(teacher: Path) -> None:
    run = build(
        config(teacher, "objective.explanation.layers={group2: 1.0}", "objective.explanation.teacher_layer=final")
    )
    (pair,) = run.module.explainers["explanation"].values()
    assert (pair.student.layer, pair.teacher.layer) == ("group2", "final")
    assert losses_of(run.module, batch_of(run.module, run))["explanation"] > 0


def test_an_inactive_term_is_neither_computed_nor_explained(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = build(config(teacher, "objective.explanation.start_epoch=1"))
    monkeypatch.setattr(Explainer, "from_output", lambda *a, **k: pytest.fail("the explainer was called"))
    monkeypatch.setattr(FrozenTeacher, "__call__", lambda *a, **k: pytest.fail("the teacher was called"))
    found = losses_of(run.module, batch_of(run.module, run))
    assert set(found) == {"loss", "cross_entropy", "cross_entropy_weighted"}


@pytest.mark.parametrize(
    ("schedule", "epoch", "step", "expected"),
    [
        (TermSchedule(every=4), 0.0, 0, 1.0),
        (TermSchedule(every=4), 0.0, 3, 0.0),
        (TermSchedule(every=4), 0.0, 8, 1.0),
        (TermSchedule(start_epoch=2.0), 1.99, 0, 0.0),
        (TermSchedule(start_epoch=2.0), 2.0, 0, 1.0),
        (TermSchedule(start_epoch=1.0, ramp_epochs=2.0), 1.5, 0, 0.25),
        (TermSchedule(start_epoch=1.0, ramp_epochs=2.0), 7.0, 0, 1.0),
    ],
)
def test_factors(schedule: TermSchedule, epoch: float, step: int, expected: float) -> None:
    assert schedule.factor(epoch=epoch, step=step) == expected


@pytest.mark.parametrize("wrong", [{"every": 0}, {"start_epoch": -1.0}, {"ramp_epochs": -0.5}])
def test_invalid_schedules_are_rejected(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least"):
        TermSchedule(**wrong)


def test_a_ramp_scales_the_weight(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = build(config(teacher, "objective.explanation.weight=4", "objective.explanation.ramp_epochs=2"))
    monkeypatch.setattr(DistillationModule, "current_epoch", 1)
    found = losses_of(run.module, batch_of(run.module, run))
    torch.testing.assert_close(found["explanation_weighted"], 4 * 0.5 * found["explanation"])
    torch.testing.assert_close(found["loss"], found["explanation_weighted"] + found["cross_entropy"])


def test_the_rate_of_empty_maps_is_logged(teacher: Path) -> None:
    maps = torch.ones(4, 3, 3)
    maps[1] = 0
    assert float(zero_map_rate([maps, torch.ones(4, 2, 2)])) == 0.125
    run = build(config(teacher, "objective.explanation.method=hires_cam"))
    torch.nn.init.zeros_(run.module.student.network.get_parameter("fc.weight"))
    found = losses_of(run.module, batch_of(run.module, run))
    assert float(found["explanation_zero_maps_student"]) == 1.0
    assert float(found["explanation_zero_maps_teacher"]) < 1.0


def frozen(net: StagedNetwork, views: Views) -> FrozenMaps:
    pair = PairExplainer(Explainer(layer="group2"), Explainer(layer="group2"))
    return FrozenMaps({"group2": pair}, FashionScenes("train", count=12), views, batch_size=5)


def test_frozen_maps_are_maps_of_whole_images_cropped_to_the_view() -> None:
    net = create_model("wrn_10_1", num_classes=10).eval()
    maps = frozen(net, Views(pad=4))
    maps.make(FrozenTeacher(net), torch.device("cpu"))
    index = torch.tensor([7, 2])
    data = maps.data
    whole = Explainer(layer="group2")(net, data.images[index].float() / 255, data.labels[index]).maps
    upright = maps.of("group2", index, torch.full((2,), maps.views.identity))
    expected = torch.nn.functional.interpolate(whole[:, None], size=(32, 32), mode="bilinear")[:, 0]
    torch.testing.assert_close(upright, expected, rtol=1e-4, atol=1e-6)
    corner = maps.of("group2", index, torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(corner[:, 4:, 4:], upright[:, :28, :28])
    assert not corner[:, :4].any()


def test_a_layer_with_negative_activations_is_warned_about_before_training(teacher: Path) -> None:
    """The layer is a batch normalisation before its ReLU; the warning is issued once per process."""
    layers = "objective.explanation.layers={block3.layer.0.bn1: 1.0}"
    pairs = (layers, "objective.explanation={teacher_layer: group2, method: grad_cam_pp}")
    with pytest.warns(UserWarning, match=r"% of the activations of layer 'block3.layer.0.bn1' are negative"):
        build(config(teacher, *pairs))


def test_frozen_maps_need_no_teacher_pass(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = build(config(teacher, "objective.explanation.frozen=true"))
    run.module.on_fit_start()
    monkeypatch.setattr(FrozenTeacher, "__call__", lambda *a, **k: pytest.fail("the teacher was called"))
    assert losses_of(run.module, batch_of(run.module, run))["explanation"] > 0


def test_frozen_maps_reject_the_students_prediction() -> None:
    with pytest.raises(InputError, match="frozen maps cannot follow the student's choice"):
        load([], ["teacher.checkpoint=x", "objective.explanation={frozen: true, target: student}"])
