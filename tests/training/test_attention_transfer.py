"""Attention transfer in a run: configuration, maps at taps, teacher cache and training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses import FakeTensorMode

from distill.build import build
from distill.config import (
    AttentionTransferTerm,
    Config,
    ExplanationTerm,
    load,
)
from distill.errors import InputError
from distill.explain import Explainer
from distill.losses.attention_transfer import attention_map_loss
from distill.models import StagedNetwork, create_model, load_model
from distill.teachers.cache import MapKey
from distill.types import Batch, StagedOutput
from tests.training.helpers import rows, save_teacher, small, train

SUMS = ("group1_sum", "group2_sum", "group3_sum")
ALONE = "objective={cross_entropy: null, attention_transfer: {}}"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("teacher"))


def run_of(folder: Path, teacher: Path, *pairs: str) -> Config:
    return small(folder, f"teacher.checkpoint={teacher}", "trainer.max_epochs=1", "seed=4", *pairs)


def term(*pairs: str) -> AttentionTransferTerm:
    found = load([], ["teacher.checkpoint=x", *pairs]).objective["attention_transfer"]
    assert isinstance(found, AttentionTransferTerm)
    return found


def batch(n: int = 6, dtype: torch.dtype = torch.float32) -> Batch:
    index = torch.arange(n)
    return Batch(torch.rand(n, 3, 16, 16, dtype=dtype), index % 10, index, torch.zeros_like(index))


def authors(student: StagedOutput, teacher: StagedOutput) -> Tensor:
    """Return the loss of the authors' code for the three groups."""

    def at(x: Tensor) -> Tensor:
        return F.normalize(x.pow(2).mean(1).flatten(1))

    losses = [(at(student.activations[s]) - at(teacher.activations[s])).pow(2).mean() for s in SUMS]
    return torch.stack(losses).sum()


def test_defaults_are_those_of_the_authors() -> None:
    found = term("objective.attention_transfer={}")
    assert (found.weight, found.form, found.layers) == (1000.0, "reference", dict.fromkeys(SUMS, 1.0))


@pytest.mark.parametrize(
    ("pair", "layers"),
    [
        ("layer: final", {"final": 1.0}),
        ("layers: [group1, final]", {"group1": 1.0, "final": 1.0}),
        ("layers: {group1: 0.5, final: 2}", {"group1": 0.5, "final": 2.0}),
    ],
)
def test_layers_have_short_forms(pair: str, layers: dict[str, float]) -> None:
    assert term(f"objective.attention_transfer={{{pair}}}").layers == layers


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{form: papr}", "input should be 'reference' or 'paper', got 'papr'; did you mean 'paper'"),
        ("{form: paper}", "form=paper needs a weight"),
        ("{layer: final, layers: [final]}", "give `layer` or `layers`, not both"),
        ("{layers: []}", "objective.attention_transfer.layers: dictionary should have at least 1 item"),
        ("{layer: a, teacher_layer: {b: c}}", r"teacher_layer names layers of the student that are not in \['a'\]"),
        ("{method: grad_cam}", "objective.attention_transfer.method: unknown key"),
    ],
)
def test_mistakes_are_reported(section: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        term(f"objective.attention_transfer={section}")


def test_an_unknown_layer_is_reported_with_the_known_ones(tmp_path: Path, teacher: Path) -> None:
    known = "must be one of group1, group2, final, group1_sum, group2_sum, group3_sum"
    with pytest.raises(InputError, match=f"student: `layer` {known}.*got 'group4_sum'"):
        build(run_of(tmp_path, teacher, "objective.attention_transfer.layer=group4_sum"))
    pairs = ("objective.attention_transfer={layer: final, teacher_layer: relu9}",)
    with pytest.raises(InputError, match=f"teacher: `layer` {known}.*got 'relu9'"):
        build(run_of(tmp_path, teacher, *pairs))


def test_the_keys_of_an_explanation_term() -> None:
    """Keys and defaults are part of a run's identity, except layouts and `mixed`; `auto` is what it stands for."""
    section = load([], ["teacher.checkpoint=x", "objective.explanation={}"]).objective["explanation"]
    assert isinstance(section, ExplanationTerm)
    assert section.model_dump() == {
        "term": "explanation",
        "weight": 5.0,
        "every": 1,
        "start_epoch": 0.0,
        "ramp_epochs": 0.0,
        "method": "auto",
        "layers": {"final": 1.0},
        "teacher_layer": None,
        "layout": "auto",
        "teacher_layout": "auto",
        "target": "label",
        "normalize": "l2",
        "distance": "squared_error",
        "gradients": "auto",
        "statistics": "batch",
        "mixed": "both",
        "frozen": False,
    }


def test_taps_are_explained_by_methods_that_need_no_head(wrn: StagedNetwork, images: Tensor) -> None:
    for layer in ("group2_sum", "block1.layer.0.conv1"):
        output = wrn.run(images, [layer])
        assert layer not in output.heads
        maps = Explainer("activation_attention", layer, "predicted")(wrn, images).maps
        torch.testing.assert_close(maps, output.activations[layer].square().sum(1))
    with pytest.raises(ValueError, match=r"cuts read: \[\]. Raw sums \(taps\) have no head"):
        Explainer("grad_cam", "group2_sum", "predicted")(wrn, images)
    with pytest.raises(ValueError, match=r"`layer` 'final' was not read in this pass; read: \['group2_sum'\]"):
        Explainer("activation_attention").from_output(wrn.run(images, ["group2_sum"]), torch.tensor([0, 1, 2, 1]))


def test_the_step_equals_the_authors_code(tmp_path: Path, teacher: Path) -> None:
    module = build(run_of(tmp_path, teacher, ALONE)).module
    images = batch()
    reference = build(run_of(tmp_path, teacher, ALONE)).module
    teacher_output = reference.teacher.network.run(images.images, SUMS)  # type: ignore[union-attr]
    expected = authors(reference.student.run(images.images, SUMS), teacher_output)
    assert float(expected.detach()) > 1e-3
    torch.testing.assert_close(module.training_step(images), 1000 * expected, rtol=1e-4, atol=0)


def test_a_folded_teacher_keeps_the_read_layers(tmp_path: Path, teacher: Path) -> None:
    layer = "block1.layer.0.conv1"
    pair = f"objective.attention_transfer={{layers: [{layer}, group2_sum]}}"
    folded = build(run_of(tmp_path, teacher, pair)).module.teacher
    assert folded is not None
    images, network = torch.rand(2, 3, 16, 16), load_model(teacher).eval()
    for name in (layer, "group2_sum"):
        found, expected = (net.run(images, [name]).activations[name] for net in (folded.network, network))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert any(isinstance(m, torch.nn.Identity) for m in folded.network.modules())


def test_the_term_alone_trains_all_layers_below(tmp_path: Path, teacher: Path) -> None:
    module = build(run_of(tmp_path, teacher, ALONE)).module
    module.training_step(batch()).backward()
    sizes = {name: 0.0 if p.grad is None else float(p.grad.norm()) for name, p in module.student.named_parameters()}
    above = {name for name in sizes if name.startswith(("network.bn1", "network.fc"))}
    assert len(above) == 4
    assert all((size == 0) == (name in above) for name, size in sizes.items()), sizes


def test_the_gradient_equals_finite_differences(wrn: StagedNetwork, images: Tensor) -> None:
    other = create_model("wrn_16_2", num_classes=3).double().eval().run(images, SUMS)
    parameters = [p for name, p in wrn.named_parameters() if not name.startswith(("network.bn1", "network.fc"))]
    explainers = [Explainer("activation_attention", layer) for layer in SUMS]
    targets = torch.zeros(4, dtype=torch.int64)

    def loss() -> Tensor:
        output = wrn.run(images, SUMS)
        pairs = [
            (e.from_output(output, targets, create_graph=torch.is_grad_enabled()), e.from_output(other, targets))
            for e in explainers
        ]
        return torch.stack([attention_map_loss(*pair, form="reference") for pair in pairs]).sum()

    gradients = torch.autograd.grad(loss(), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        direction, step = gradient / gradient.norm(), 1e-6
        with torch.no_grad():
            ends = []
            for sign in (1, -2):
                parameter.add_(sign * step * direction)
                ends.append(float(loss()))
            parameter.add_(step * direction)
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float(gradient.norm()), rel=1e-3)


def test_the_step_reads_no_value_on_the_host(tmp_path: Path, teacher: Path) -> None:
    module = build(run_of(tmp_path, teacher, "objective.attention_transfer={form: paper, weight: 1}")).module
    with FakeTensorMode(allow_non_fake_inputs=True):
        loss = module.training_step(batch())
        gradients = torch.autograd.grad(loss, list(module.student.parameters()))
    assert loss.shape == ()
    assert [g.shape for g in gradients] == [p.shape for p in module.student.parameters()]


@pytest.mark.parametrize("weight", [0, 1000])
def test_weight_0_skips_the_computation(
    tmp_path: Path, teacher: Path, weight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = f"objective={{soft_targets: {{}}, attention_transfer: {{weight: {weight}}}}}"
    module = build(run_of(tmp_path, teacher, pair)).module
    layers_read: list[tuple[str, ...]] = []
    run = StagedNetwork.run

    def watched(self: StagedNetwork, images: Tensor, layers: Sequence[str] = ()) -> StagedOutput:
        layers_read.append(tuple(layers))
        return run(self, images, layers)

    monkeypatch.setattr(module, "_student_forward", watched.__get__(module.student))
    monkeypatch.setattr(module.teacher, "_run", watched.__get__(module.teacher.network))  # type: ignore[union-attr]
    module.training_step(batch())
    assert layers_read == [SUMS if weight else ()] * 2
    assert ("train/attention_transfer" in module.metric_names) == bool(weight)


@pytest.mark.parametrize("form", ["reference", "paper"])
def test_losses_are_the_same_with_a_cache(tmp_path: Path, teacher: Path, form: str) -> None:
    objective = f"objective={{soft_targets: {{}}, attention_transfer: {{form: {form}, weight: 10}}}}"

    def losses(name: str, cache: str) -> list[dict[str, float]]:
        config = run_of(tmp_path, teacher, objective, f"name={name}", f"teacher.cache={cache}")
        train(config)
        return [{k: float(v) for k, v in row.items() if v and "cache" not in k} for row in rows(config)]

    plain = losses("plain", "off")
    assert plain[-1]["train/attention_transfer"] > 1e-3
    assert plain[-1]["train/attention_transfer_zero_maps_student"] == 0
    for name, cache in (("memory", "memory"), ("cold", "disk"), ("warm", "disk")):
        for found, expected in zip(losses(name, cache), plain, strict=True):
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert len(list((tmp_path / "teacher_cache").iterdir())) == 2 + 3  # logits of two splits, a map of each group


def test_maps_without_a_class_are_shared_by_all_targets(tmp_path: Path, teacher: Path) -> None:
    def kinds(target: str, method: str) -> set[MapKey]:
        terms: Any = f"{{method: {method}, layer: group1_sum, target: {target}}}"
        pairs = (f"objective={{attention_transfer: {{layer: group1_sum}}, explanation: {terms}}}",)
        cache = build(run_of(tmp_path, teacher, *pairs, "teacher.cache=memory")).module.cache
        assert cache is not None
        return set(cache.pairs)

    one = {MapKey("activation_attention", "group1_sum", "none")}
    assert [kinds(target, "activation_attention") for target in ("label", "teacher", "student")] == [one] * 3
    with pytest.raises(InputError, match=r"objective.explanation.target is 'student'"):
        build(run_of(tmp_path, teacher, "objective.explanation.target=student", "teacher.cache=memory"))


def test_a_teacher_of_another_size_is_resized(tmp_path: Path) -> None:
    resnet = save_teacher(tmp_path / "resnet", "resnet18")
    layers = "{layers: [group2_sum, group3_sum], teacher_layer: {group2_sum: layer1, group3_sum: layer2}}"
    module = build(run_of(tmp_path, resnet, f"objective.attention_transfer={layers}")).module
    assert float(module.training_step(batch())) > 0
    pairs = module.explainers["attention_transfer"]
    assert {layer: pair.teacher.layer for layer, pair in pairs.items()} == {
        "group2_sum": "layer1",
        "group3_sum": "layer2",
    }
