"""The training step reads no value on the host, computes only active terms, and logs every term."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from distill.config import OptimizerSection, ScheduleSection
from distill.explain import Explainer, PairExplainer
from distill.losses import (
    CrossEntropy,
    ExplanationMatching,
    Objective,
    SoftTargets,
    WeightedTerm,
)
from distill.losses.failure import TermError
from distill.losses.term import TermInputs
from distill.models import StagedNetwork, create_model
from distill.teachers import FrozenTeacher
from distill.training import DistillationModule, Optimisation
from distill.types import Batch, StagedOutput
from tests.training.helpers import KD, rows, save_teacher, small, train


def make(*, layer: str = "group2", weight: float = 5.0, extra: nn.Module | None = None) -> DistillationModule:
    torch.manual_seed(0)
    terms = {
        "cross_entropy": WeightedTerm(0.1, CrossEntropy()),
        "soft_targets": WeightedTerm(0.9, SoftTargets()),
        "explanation": WeightedTerm(weight, ExplanationMatching()),
    }
    if extra is not None:
        terms["planted"] = WeightedTerm(1.0, extra)
    explainer = PairExplainer(Explainer(layer=layer), Explainer(layer=layer), "label")
    return DistillationModule(
        create_model("wrn_10_1", num_classes=10),
        Objective(terms),
        Optimisation(OptimizerSection(), ScheduleSection()),
        teacher=FrozenTeacher(create_model("wrn_16_1", num_classes=10)),
        explainers={"explanation": {layer: explainer}},
    )


def batch(n: int = 6) -> Batch:
    index = torch.arange(n)
    return Batch(torch.rand(n, 3, 16, 16), index % 10, index, torch.zeros_like(index))


@pytest.mark.parametrize("layer", ["final", "group2", "group1"])
def test_the_step_reads_no_value_on_the_host(layer: str) -> None:
    module = make(layer=layer)
    with FakeTensorMode(allow_non_fake_inputs=True):
        loss = module.training_step(batch())
        gradients = torch.autograd.grad(loss, list(module.student.parameters()))
    assert loss.shape == ()
    assert [g.shape for g in gradients] == [p.shape for p in module.student.parameters()]


class Planted(nn.Module):
    def __init__(self, read: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.read = read

    def forward(self, inputs: TermInputs) -> Tensor:
        self.read(inputs.student.logits)
        return inputs.student.logits.mean()


PLANTED: dict[str, Callable[[Tensor], object]] = {
    "item": lambda logits: logits.sum().item(),
    "float": lambda logits: float(logits.mean()),
    "tolist": lambda logits: logits.tolist(),
    "if": lambda logits: 1 if logits.sum() > 0 else 0,
    "mask": lambda logits: logits[logits > 0],
}


@pytest.mark.parametrize("how", PLANTED)
def test_a_planted_read_on_the_host_fails(how: str) -> None:
    module = make(extra=Planted(PLANTED[how]))
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(TermError) as caught:
        module.training_step(batch())
    assert isinstance(caught.value.__cause__, DataDependentOutputException | DynamicOutputShapeException)


def test_the_step_is_the_equation() -> None:
    module, images = make(), batch()
    reference = make()
    total = module.training_step(images)
    student = reference.student.run(images.images, ["group2"])
    teacher = reference.teacher.network.run(images.images, ["group2"])  # type: ignore[union-attr]
    (explainer,) = reference.explainers["explanation"].values()
    terms = {
        "cross_entropy": nn.functional.cross_entropy(student.logits, images.labels),
        "soft_targets": 16
        * nn.functional.kl_div(
            (student.logits / 4).log_softmax(1), (teacher.logits / 4).softmax(1), reduction="batchmean"
        ),
    }
    maps = [
        e.from_output(o, images.labels, create_graph=False).flatten(1)
        for e, o in ((explainer.student, student), (explainer.teacher, teacher))
    ]
    a, b = (m / m.norm(dim=1, keepdim=True) for m in maps)
    terms["explanation"] = (a - b).square().sum(1).mean()
    expected = 0.1 * terms["cross_entropy"] + 0.9 * terms["soft_targets"] + 5 * terms["explanation"]
    torch.testing.assert_close(total, expected)
    assert terms["explanation"] > 0.01


@pytest.mark.parametrize("weight", [0.0, 5.0])
def test_weight_0_skips_the_computation(weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    original = Explainer.from_output

    def counted(self: Explainer, *args: object, **kwargs: object) -> Tensor:
        calls.append(self.layer)
        return original(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Explainer, "from_output", counted)
    layers_read: list[tuple[str, ...]] = []
    run = StagedNetwork.run

    def watched(self: StagedNetwork, images: Tensor, layers: Sequence[str] = ()) -> StagedOutput:
        layers_read.append(tuple(layers))
        return run(self, images, layers)

    monkeypatch.setattr(StagedNetwork, "run", watched)
    module = make(weight=weight)
    module.training_step(batch())
    assert calls == (["group2", "group2"] if weight else [])
    assert layers_read == [("group2",) if weight else ()] * 2  # student and teacher


def test_weight_0_does_not_require_the_teachers_layer(tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path / "teacher", "resnet18", small_images=True)
    objective = "objective={cross_entropy: {}, explanation: {weight: 0, layer: group1}}"
    config = small(tmp_path, objective, f"teacher.checkpoint={teacher}", "trainer.max_epochs=1")
    train(config)
    assert set(rows(config)[-1]) & {"train/explanation", "train/explanation_weighted"} == set()


def test_every_term_is_logged_raw_and_weighted(tmp_path: Path) -> None:
    config = small(tmp_path, *KD, f"teacher.checkpoint={save_teacher(tmp_path / 'teacher')}", "optimizer.lr=0.01")
    train(config)
    logged = [row for row in rows(config) if row["train/loss"]]
    assert len(logged) == 3
    for row in logged:
        values = {name: float(value) for name, value in row.items() if value}
        for name, weight in (("cross_entropy", 0.1), ("soft_targets", 0.9), ("explanation", 5.0)):
            assert values[f"train/{name}_weighted"] == pytest.approx(weight * values[f"train/{name}"], rel=1e-5)
            assert values[f"train/{name}"] > 0
        total = sum(value for name, value in values.items() if name.endswith("_weighted"))
        assert values["train/loss"] == pytest.approx(total, rel=1e-5)


def test_logged_values_are_means_over_the_samples_of_the_epoch() -> None:
    module = make()
    logged: dict[str, Tensor] = {}
    module.log_dict = lambda values, **kwargs: logged.update(values)  # type: ignore[method-assign]
    losses = []
    for n in (6, 2):
        torch.manual_seed(n)
        losses.append((n, float(module.training_step(batch(n)))))
    module.on_train_epoch_end()
    assert float(logged["train/loss"]) == pytest.approx(sum(n * loss for n, loss in losses) / 8, rel=1e-6)
    assert list(logged)[:2] == ["train/loss", "train/cross_entropy"]
    last = float(module.training_step(batch(2)))
    module.on_train_epoch_end()
    assert float(logged["train/loss"]) == pytest.approx(last, rel=1e-6)


def test_batch_statistics_are_updated_once_per_step() -> None:
    module, reference = make(), make()
    images = batch()
    module.training_step(images)
    reference.student(images.images)
    for (name, got), expected in zip(module.student.named_buffers(), reference.student.buffers(), strict=True):
        torch.testing.assert_close(got, expected, msg=name)
    tracked = [int(b) for name, b in module.student.named_buffers() if name.endswith("num_batches_tracked")]
    assert tracked == [1] * len(tracked)
    assert len(tracked) == 7
