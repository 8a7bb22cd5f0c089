"""Runs with third-party terms: inputs, layers, maps, caches, resuming, ready-made modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distill.build import Objects, build, build_module, split_terms, term_record
from distill.config import CustomLayeredTerm, identity, validate
from distill.errors import InputError
from distill.losses import (
    ExplanationMatching,
)
from distill.models import create_model
from distill.training import RunDirectory, fit
from distill.types import Batch, StagedOutput
from tests.losses.own_term_helpers import OWN, by_loops, config_of, example
from tests.losses.own_terms import Confidence, Hint
from tests.training.helpers import CrashError, checkpoint, crash_at, rows, save_teacher, train

pytestmark = pytest.mark.usefixtures("own_registry")
LABELS = torch.tensor([2, 0])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("teacher"), "wrn_16_1")


# runs


def test_a_term_without_a_teacher_trains(tmp_path: Path) -> None:
    config = config_of(tmp_path, f"objective.c={{term: '{OWN}:Confidence', weight: 2}}", "trainer.max_epochs=1")
    run = train(config)
    (row,) = [row for row in rows(config) if row["train/c"]]
    assert float(row["train/c_weighted"]) == pytest.approx(2 * float(row["train/c"]), rel=1e-6)
    assert float(row["train/c"]) > 0.1
    assert run.module.teacher is None


def test_a_term_alone_is_an_objective(tmp_path: Path) -> None:
    train(config_of(tmp_path, f"objective={{cross_entropy: null, c: {{term: '{OWN}:Confidence'}}}}"))


def test_the_value_in_a_step_is_that_of_the_activations(tmp_path: Path, teacher: Path) -> None:
    term = example(temperature=2.0)
    options: dict[str, Any] = {
        "term": term,
        "layers": {"group1": 1.0, "group2": 0.5},
        "teacher_layer": {"group1": "group1"},
    }
    values, modules = split_terms({"channels": {**options, "weight": 3}})
    config = config_of(tmp_path, f"teacher.checkpoint={teacher}", terms=values)
    run = build(config, Objects(terms=modules))
    module, data = run.module, run.data
    batch = next(iter(data.train_dataloader()))
    images = torch.rand(batch.images.shape)
    batch = batch._replace(images=images)
    module.student.eval()
    total = module.training_step(batch)
    student = module.student.run(images, ["group1", "group2"])
    assert module.teacher is not None
    other = module.teacher.network.run(images, ["group1", "group2"])
    expected = sum(
        weight * by_loops(student.activations[layer].detach(), other.activations[layer].detach(), 2.0)
        for layer, weight in (("group1", 1.0), ("group2", 0.5))
    )
    entropy = nn.functional.cross_entropy(student.logits, batch.labels)
    assert float(total.detach()) == pytest.approx(float(entropy.detach()) + 3 * expected, rel=1e-4)
    assert expected > 1e-3
    gradient = torch.autograd.grad(total, module.student.network.conv1.weight)[0]  # type: ignore[union-attr,arg-type]
    assert float(gradient.norm()) > 0


def test_only_the_layers_of_terms_that_count_are_read(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [f"objective.hint={{term: '{OWN}:Hint', layer: final, teacher_layer: group3_sum, start_epoch: 1}}"]
    module = build(config_of(tmp_path, f"teacher.checkpoint={teacher}", *pairs)).module
    read: list[tuple[str, tuple[str, ...]]] = []
    forward, frozen = module._student_forward, module.teacher
    assert frozen is not None

    def student(images: Tensor, layers: tuple[str, ...]) -> StagedOutput:
        read.append(("student", layers))
        return forward(images, layers)

    def watched(images: Tensor, layers: tuple[str, ...]) -> StagedOutput:
        read.append(("teacher", layers))
        return frozen(images, layers)

    monkeypatch.setattr(module, "_student_forward", student)
    monkeypatch.setattr(module, "teacher", watched)
    index = torch.arange(2)
    batch = Batch(torch.rand(2, 3, 16, 16), LABELS, index, torch.zeros_like(index))
    module.training_step(batch)
    assert read == [("student", ())]
    module.training_step(batch, batch_idx=1)  # without a trainer an epoch has one batch
    assert read[1:] == [("student", ("final",)), ("teacher", ("group3_sum",))]


@pytest.mark.parametrize(("term", "calls"), [("Confidence", 0), ("Norm, size: 1", 0), ("Hint", 1)])
def test_the_teacher_runs_only_if_a_term_needs_it(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch, term: str, calls: int
) -> None:
    name, _, options = term.partition(",")
    pair = f"objective.x={{term: '{OWN}:{name}',{options}}}"
    module = build(config_of(tmp_path, f"teacher.checkpoint={teacher}", pair)).module
    frozen, seen = module.teacher, []
    assert frozen is not None

    def watched(images: Tensor, layers: tuple[str, ...]) -> StagedOutput:
        seen.append(layers)
        return frozen(images, layers)

    monkeypatch.setattr(module, "teacher", watched)
    index = torch.arange(2)
    module.training_step(Batch(torch.rand(2, 3, 16, 16), LABELS, index, torch.zeros_like(index)))
    assert len(seen) == calls


@pytest.mark.parametrize("method", ["layer_cam", "grad_cam"])
def test_a_term_gets_the_maps_of_its_method(tmp_path: Path, teacher: Path, method: str) -> None:
    values = f"{{term: '{OWN}:MapDifference', layer: group2, method: {method}, target: teacher}}"
    run = build(config_of(tmp_path, f"teacher.checkpoint={teacher}", f"objective.m={values}"))
    (pair,) = run.module.explainers["m"].values()
    assert (pair.student.method, pair.teacher.method, pair.student.layer, pair.policy) == (
        method,
        method,
        "group2",
        "teacher",
    )
    assert "train/m_zero_maps_student" in run.module.metric_names


@pytest.mark.parametrize("cache", ["off", "memory", "disk"])
def test_maps_are_cached_and_the_losses_are_the_same(tmp_path: Path, teacher: Path, cache: str) -> None:
    pair = f"objective={{m: {{term: '{OWN}:MapDifference', layer: group2}}}}"
    shared = ("data.augment.views=2", "trainer.max_epochs=2", f"teacher.checkpoint={teacher}", pair)
    plain = config_of(tmp_path / "plain", *shared)
    cached = config_of(tmp_path / cache, *shared, f"teacher.cache={cache}")
    train(plain)
    train(cached)
    losses = [[float(row["train/m"]) for row in rows(config) if row["train/m"]] for config in (plain, cached)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][0] > 0


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_a_cache_is_refused_if_a_term_needs_the_teachers_activations(tmp_path: Path, teacher: Path, cache: str) -> None:
    pairs = (f"teacher={{checkpoint: {teacher}, cache: {cache}}}", f"objective.h={{term: '{OWN}:Hint'}}")
    with pytest.raises(InputError) as caught:
        build(config_of(tmp_path, *pairs))
    assert str(caught.value) == (
        "teacher.cache: objective.h needs the teacher's activations, which the cache does not store; set "
        "teacher.cache=off."
    )
    norm = f"objective.n={{term: '{OWN}:Norm', size: 1}}"
    build(config_of(tmp_path, pairs[0], norm, "objective.soft_targets.weight=1"))
    build(config_of(tmp_path, *pairs, "objective.h.weight=0"))


def test_a_run_with_parameters_of_a_term_resumes_exactly(tmp_path: Path, teacher: Path) -> None:
    pairs = (f"teacher.checkpoint={teacher}", f"objective.h={{term: '{OWN}:Hint', channels: 64}}")
    straight = config_of(tmp_path / "straight", *pairs)
    cut = config_of(tmp_path / "cut", *pairs)
    run = train(straight)
    with pytest.raises(CrashError):
        train(cut, before_step=crash_at(6))
    again = train(cut)
    names = [name for name, _ in again.module.named_parameters() if name.startswith("objective.terms.h.")]
    assert names == ["objective.terms.h.adapt.weight", "objective.terms.h.adapt.bias"]
    expected = run.module.state_dict()
    for name, tensor in again.module.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    saved = checkpoint(cut.directory / "checkpoints" / "last.ckpt")["state_dict"]
    assert "objective.terms.h.adapt.weight" in saved
    first = build(straight).module.get_parameter("objective.terms.h.adapt.weight")
    assert not torch.equal(first, again.module.get_parameter("objective.terms.h.adapt.weight"))


# ready-made terms


def test_a_ready_made_term_is_recorded(tmp_path: Path) -> None:
    values, modules = split_terms({"c": {"term": Confidence(2.0), "weight": 3, "every": 2}})
    config = config_of(tmp_path, terms=values)
    recorded = config.model_dump(mode="json")["objective"]["c"]
    assert recorded["term"].startswith(f"object:{OWN}.Confidence#")
    assert (recorded["weight"], recorded["every"], recorded["power"]) == (3.0, 2, 2.0)
    assert list(modules) == ["c"]
    again, mistakes = validate(config.model_dump(mode="json"))
    assert mistakes == []
    assert again is not None
    assert identity(again) == identity(config)
    with pytest.raises(InputError, match=r"objective.c.term: the term was passed as a Python object \(.*Confidence\)"):
        build(again)
    with pytest.raises(InputError, match=r"objective.c.term: the term was passed as a Python object"):
        build(config)


def test_a_ready_made_term_trains_and_stays_as_it_is(tmp_path: Path, teacher: Path) -> None:
    term = Hint(64)
    term.adapt = nn.Conv2d(128, 64, 1)  # type: ignore[assignment]
    before = term.adapt.weight.clone()
    values, modules = split_terms({"h": {"term": term, "teacher_layer": "group3_sum", "weight": 2}})
    config = config_of(tmp_path, f"teacher.checkpoint={teacher}", "student.name=wrn_10_2", terms=values)
    run = build(config, Objects(terms=modules))
    RunDirectory(config.directory).open(config, run.identity)
    fit(run.module, run.data, config)
    assert torch.equal(term.adapt.weight, before)
    assert not torch.equal(run.module.get_parameter("objective.terms.h.adapt.weight"), before)
    assert term_record(term).term == values["h"].term


def test_other_content_is_another_object() -> None:
    torch.manual_seed(0)
    one, other = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
    names = {term_record(term).term for term in (one, other, one, Confidence(1.0), Confidence(2.0))}
    assert len(names) == 4


def test_layers_of_a_ready_made_term() -> None:
    class Layered(Hint):
        layers = "group1"
        teacher_layer = "final"

    record = term_record(Layered())
    assert isinstance(record, CustomLayeredTerm)
    assert (record.layers, record.teacher_layer, record.needs_teacher) == ({"group1": 1.0}, "final", True)
    built_in = term_record(ExplanationMatching(layers={"group2": 0.5}, normalize="max"), target="teacher")
    assert isinstance(built_in, CustomLayeredTerm)
    assert built_in.layers == {"group2": 0.5}
    assert built_in.options == {
        "normalize": "max",
        "distance": "squared_error",
        "method": "grad_cam_pp",
        "target": "teacher",
        "gradients": "auto",
        "statistics": "batch",
        "mixed": "both",
    }


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"wieght": 1}, "unknown key 'wieght'; did you mean 'weight'?"),
        ({"power": 1}, "unknown key 'power'"),
        ({"weight": -1}, "weight: input should be greater than or equal to 0, got -1"),
        ({"layer": "a"}, "unknown key 'layer'"),
    ],
)
def test_a_wrong_key_of_a_ready_made_term(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        split_terms({"c": {"term": Confidence(), **keys}})
    assert message in str(caught.value)
    assert str(caught.value).startswith("objective.c: ")


def test_a_ready_made_term_needs_an_entry(tmp_path: Path) -> None:
    network = create_model("wrn_10_1", num_classes=10)
    with pytest.raises(InputError, match=r"^objective.c: a ready-made term needs an entry in the objective"):
        build_module(config_of(tmp_path), network, None, terms={"c": Confidence()})
